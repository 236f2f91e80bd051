/**
 * What every BlockDevice owes its users, as a suite over a factory: run it over a wrapper, a format, a driver pair or a
 * network client. Offsets are generated at the edges; a random model check compares with a plain Buffer.
 */
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { DiskError } from "#src/errors.js";
import { edgeOffsets } from "../support/edges.js";

export interface DeviceRequest {
  /** Bytes, a multiple of blockSize. The device reads as zeros at first. */
  readonly size: number;
  readonly blockSize: number;
  readonly writable: boolean;
}

export interface DeviceUnderTest {
  readonly device: BlockDevice;
  /** Everything under the device; called after the device is closed. */
  release?(): Promise<void> | void;
}

export type DeviceFactory = (request: DeviceRequest) => Promise<DeviceUnderTest>;

export interface ContractOptions {
  /** Default [1, 512]; a driver that has one block size names it. */
  readonly blockSizes?: readonly number[];
  /** Bytes in which the device allocates or copies, for edges; default 4096. */
  readonly unit?: number;
  /** Default: three units and a bit, so that the last unit is a short one. */
  readonly size?: (blockSize: number) => number;
  /** Default [true, false]: which of the two the factory can make. */
  readonly writable?: readonly boolean[];
  /** False for a sink that forgets what it is told. */
  readonly keeps?: boolean;
  /** Runs of the random check; default 25. */
  readonly runs?: number;
  /** False where requests after close cannot be told apart (then only close itself is checked). */
  readonly refusesAfterClose?: boolean;
}

export function describeBlockDevice(name: string, factory: DeviceFactory, options: ContractOptions = {}): void {
  const { blockSizes = [1, 512], unit = 4096, writable = [true, false], keeps = true } = options;
  for (const blockSize of blockSizes) {
    const size = options.size?.(blockSize) ?? unit * 3 + Math.max(blockSize, 512) * 3;
    const made: DeviceUnderTest[] = [];
    const open = async (asWritable: boolean) => {
      const subject = await factory({ size, blockSize, writable: asWritable });
      made.push(subject);
      return subject.device;
    };
    const closeAll = async () => {
      for (const { device, release } of made.splice(0)) {
        await device.close();
        await release?.();
      }
    };

    describe(`${name}, blocks of ${blockSize}`, () => {
      afterEach(closeAll);
      describeReading(
        () => open(writable.includes(true)),
        { size, blockSize, unit },
        options.refusesAfterClose ?? true,
      );
      if (writable.includes(true) && keeps) {
        describeWriting(() => open(true), { size, blockSize, unit });
        describeConcurrency(() => open(true), { size, blockSize, unit });
        test("any order of requests gives what a plain buffer would have", () =>
          fc.assert(
            fc.asyncProperty(fc.array(operation(size, blockSize), { maxLength: 30 }), async (operations) => {
              await runAgainstModel(await open(true), operations);
              await closeAll();
            }),
            { numRuns: options.runs ?? 25 },
          ));
      }
      if (writable.includes(false)) describeReadOnly(() => open(false), blockSize);
    });
  }
}

interface Shape {
  readonly size: number;
  readonly blockSize: number;
  readonly unit: number;
}
type Open = () => Promise<BlockDevice>;

function describeReading(open: Open, { size, blockSize, unit }: Shape, refusesAfterClose: boolean): void {
  test("tells what it is", async () => {
    const device = await open();
    expect(device.label).not.toBe("");
    expect(device).toMatchObject({ size, blockSize });
  });

  test("reads zeros at first, into the middle of a larger buffer and nothing beside it", async () => {
    const device = await open();
    const around = new Uint8Array(size + 2).fill(0xee);
    await device.read(0, around.subarray(1, size + 1));
    expect(around[0]).toBe(0xee);
    expect(around[size + 1]).toBe(0xee);
    expect(around.subarray(1, size + 1).every((byte) => byte === 0)).toBe(true);
  });

  test.each<[string, number, number]>([
    ["before the start", -blockSize, blockSize],
    ["at the end", size, blockSize],
    ["across the end", size - blockSize, 2 * blockSize],
    ["far behind the end", 2 ** 53 - 1 - ((2 ** 53 - 1) % blockSize), blockSize],
    ["at no number", Number.NaN, blockSize],
    ...(blockSize > 1
      ? ([
          ["off its blocks", 1, blockSize],
          ["of half a block", 0, blockSize / 2],
        ] satisfies [string, number, number][])
      : []),
  ])("refuses a request %s", async (_where, offset, length) => {
    const device = await open();
    await expect(device.read(offset, new Uint8Array(length))).rejects.toThrow(RangeError);
    expect(() => device.extents(offset, length)).toThrow(RangeError);
    if (!device.writable) return;
    await expect(device.write(offset, new Uint8Array(length))).rejects.toThrow(RangeError);
    await expect(device.zero(offset, length)).rejects.toThrow(RangeError);
    await expect(device.discard(offset, length)).rejects.toThrow(RangeError);
  });

  test("takes empty requests, at the end too", async () => {
    const device = await open();
    await device.read(size, new Uint8Array(0));
    expect(await collect(device.extents(size, 0))).toEqual([]);
  });

  test("maps any range gaplessly", async () => {
    const device = await open();
    for (const [offset, length] of ranges(size, blockSize, unit)) await checkExtents(device, offset, length);
  });

  test("closes twice, and answers nothing afterwards", async () => {
    const device = await open();
    await device.flush();
    await device.close();
    await device.close();
    if (refusesAfterClose) await expect(device.read(0, new Uint8Array(blockSize))).rejects.toThrow(/closed/);
  });
}

function describeWriting(open: Open, { size, blockSize, unit }: Shape): void {
  test("what is written at every edge is read back, and nothing else changes", async () => {
    const device = await open();
    const model = new Uint8Array(size);
    let seed = 1;
    for (const [offset, length] of ranges(size, blockSize, unit)) {
      const data = pattern(length, seed++);
      await device.write(offset, data);
      model.set(data, offset);
      data.fill(0); // the device must not have kept it
    }
    await expectContents(device, model);
    await device.flush();
    await expectContents(device, model);
  });

  test("zeroed ranges read as zeros and their neighbours stay", async () => {
    for (const [offset, length] of ranges(size, blockSize, unit)) {
      const device = await open();
      const model = pattern(size, 7);
      await device.write(0, model);
      await device.zero(offset, length);
      model.fill(0, offset, offset + length);
      await expectContents(device, model);
      await device.close();
    }
  });

  test("a discard touches nothing outside its range", async () => {
    const device = await open();
    const model = pattern(size, 9);
    await device.write(0, model);
    const [offset, length] = [unit, unit];
    await device.discard(offset, length);
    const found = new Uint8Array(size);
    await device.read(0, found);
    expect(found.subarray(0, offset)).toEqual(model.subarray(0, offset));
    expect(found.subarray(offset + length)).toEqual(model.subarray(offset + length));
  });

  test("maps data and zeros as they read", async () => {
    const device = await open();
    await device.write(unit, pattern(unit, 3));
    await device.write(size - blockSize, pattern(blockSize, 4));
    await device.zero(unit, blockSize);
    for (const [offset, length] of ranges(size, blockSize, unit)) await checkExtents(device, offset, length);
  });

  test("takes views of shared memory, to write from and to read into", async () => {
    const device = await open();
    const shared = new Uint8Array(new SharedArrayBuffer(2 * unit));
    const data = pattern(unit, 5);
    shared.set(data, 0);
    await device.write(unit, shared.subarray(0, unit));
    await device.read(unit, shared.subarray(unit));
    expect(Buffer.compare(shared.subarray(unit), data)).toBe(0);
  });
}

function describeConcurrency(open: Open, { size, blockSize, unit }: Shape): void {
  test("writes at once to parts of one unit are all kept", async () => {
    const device = await open();
    const part = Math.max(blockSize, unit / 16);
    const model = new Uint8Array(size);
    const writes = [];
    for (let offset = 0; offset < size; offset += part) {
      const data = pattern(Math.min(part, size - offset), offset / part + 1);
      model.set(data, offset);
      writes.push(device.write(offset, data));
    }
    await Promise.all(writes);
    await expectContents(device, model);
  });

  test("reads at once do not mix", async () => {
    const device = await open();
    const model = pattern(size, 11);
    await device.write(0, model);
    await Promise.all(
      ranges(size, blockSize, unit).map(async ([offset, length]) => {
        const found = new Uint8Array(length);
        await device.read(offset, found);
        expect(Buffer.compare(found, model.subarray(offset, offset + length))).toBe(0);
      }),
    );
  });
}

function describeReadOnly(open: Open, blockSize: number): void {
  test("opened read-only it refuses every change", async () => {
    const device = await open();
    expect(device.writable).toBe(false);
    const changes = [
      () => device.write(0, new Uint8Array(blockSize)),
      () => device.zero(0, blockSize),
      () => device.discard(0, blockSize),
    ];
    for (const change of changes) {
      const error = await change().then(
        () => null,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(DiskError);
      expect((error as DiskError).code).toBe("READ_ONLY");
    }
    await device.flush();
  });
}

type Operation = {
  kind: "write" | "zero" | "discard" | "read" | "flush";
  offset: number;
  length: number;
  seed: number;
};

function operation(size: number, blockSize: number): fc.Arbitrary<Operation> {
  const blocks = size / blockSize;
  return fc
    .record({
      kind: fc.constantFrom("write", "write", "write", "zero", "discard", "read", "flush"),
      first: fc.nat(blocks - 1),
      count: fc.nat(Math.min(blocks, Math.ceil(9000 / blockSize))),
      seed: fc.integer({ min: 1, max: 250 }),
    })
    .map(({ kind, first, count, seed }) => {
      const length = Math.min(count, blocks - first) * blockSize;
      return { kind: kind as Operation["kind"], offset: first * blockSize, length, seed };
    });
}

async function runAgainstModel(device: BlockDevice, operations: readonly Operation[]): Promise<void> {
  const model = new Uint8Array(device.size);
  for (const { kind, offset, length, seed } of operations) {
    if (kind === "flush") await device.flush();
    if (kind === "read") await expectContents(device, model.subarray(offset, offset + length), offset);
    if (kind === "zero") {
      await device.zero(offset, length);
      model.fill(0, offset, offset + length);
    }
    if (kind === "discard") {
      await device.discard(offset, length);
      await device.read(offset, model.subarray(offset, offset + length)); // any contents will do
    }
    if (kind === "write") {
      const data = pattern(length, seed);
      await device.write(offset, data);
      model.set(data, offset);
    }
  }
  await expectContents(device, model);
  await checkExtents(device, 0, device.size);
}

/** Ascending, gapless, exactly the range; what is told to be zero reads as zeros. */
async function checkExtents(device: BlockDevice, offset: number, length: number): Promise<void> {
  let end = offset;
  for await (const extent of device.extents(offset, length)) {
    expect(extent.offset).toBe(end);
    expect(extent.length).toBeGreaterThan(0);
    expect(extent.data && extent.zero).toBe(false);
    end += extent.length;
    expect(end).toBeLessThanOrEqual(offset + length);
    if (extent.zero && extent.offset % device.blockSize === 0 && extent.length % device.blockSize === 0)
      await expectContents(device, new Uint8Array(extent.length), extent.offset);
  }
  expect(end).toBe(offset + length);
}

async function expectContents(device: BlockDevice, expected: Uint8Array, offset = 0): Promise<void> {
  const found = new Uint8Array(expected.length);
  await device.read(offset, found);
  if (Buffer.compare(found, expected) === 0) return;
  const at = found.findIndex((byte, i) => byte !== expected[i]);
  expect({ byte: offset + at, is: found[at] }).toEqual({ byte: offset + at, is: expected[at] });
}

/** Offsets and lengths around every edge, in whole blocks and within the device. */
function ranges(size: number, blockSize: number, unit: number): [number, number][] {
  const offsets = edgeOffsets(size, blockSize, unit);
  const lengths = [...new Set([blockSize, 2 * blockSize, unit - (unit % blockSize), unit + blockSize])];
  return offsets.flatMap((offset) =>
    lengths
      .filter((length) => length > 0 && offset + length <= size)
      .map((length): [number, number] => [offset, length]),
  );
}

/** Bytes that tell their own place, none of them zero, so that a moved block is seen. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = 1 + ((seed * 37 + i * 7 + (i >> 8) * 13) % 255);
  return bytes;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all = [];
  for await (const item of items) all.push(item);
  return all;
}
