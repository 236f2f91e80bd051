/** The one copy-on-write of mapped.ts: its write order, seen through a recorded log, and its lock. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { type Location, mapDevice } from "#src/block/mapped.js";
import { memoryDevice } from "#src/block/memory.js";
import { overlayDevice } from "#src/block/overlay.js";
import { pattern } from "../contract/block-device.js";

const UNIT = 4096;
const UNITS = 4;
const SIZE = UNIT * UNITS;

type Step = { kind: "store"; offset: number; data: Uint8Array } | { kind: "link"; unit: number; place: number };

/** A smallest format: a table of places in a store, every change to either logged in the order in which it is done. */
function loggedFormat(base: Uint8Array) {
  const store = new Uint8Array(SIZE * 4);
  const table = new Map<number, number>();
  const log: Step[] = [];
  let next = 0;
  let allocations = 0;
  const backing = memoryDevice(base, { writable: false });
  const storeDevice = defineDevice({
    label: "store",
    size: store.length,
    read: async (offset, into) => into.set(store.subarray(offset, offset + into.length)),
    async write(offset, data) {
      await new Promise((resolve) => setImmediate(resolve)); // real stores take a while
      store.set(data, offset);
      log.push({ kind: "store", offset, data: data.slice() });
    },
  });
  const device = mapDevice({
    label: "format",
    size: SIZE,
    blockSize: 1,
    writable: true,
    async locate(offset): Promise<Location> {
      const length = UNIT - (offset % UNIT);
      const place = table.get(Math.floor(offset / UNIT));
      if (place === undefined) return { kind: "data", device: backing, offset, length, shared: true };
      return { kind: "data", device: storeDevice, offset: place + (offset % UNIT), length, shared: false };
    },
    allocator: {
      unit: UNIT,
      async allocate(offset) {
        allocations++;
        const [unit, place] = [offset / UNIT, next];
        next += UNIT;
        return {
          device: storeDevice,
          offset: place,
          async commit() {
            await new Promise((resolve) => setImmediate(resolve));
            table.set(unit, place);
            log.push({ kind: "link", unit, place });
          },
        };
      },
    },
  });
  return { device, log, count: () => allocations };
}

/** What a reader would see had the power gone after these steps. */
function afterCut(base: Uint8Array, steps: readonly Step[]): Uint8Array {
  const store = new Uint8Array(SIZE * 4);
  const table = new Map<number, number>();
  for (const step of steps) {
    if (step.kind === "store") store.set(step.data, step.offset);
    else table.set(step.unit, step.place);
  }
  const seen = base.slice();
  for (const [unit, place] of table) seen.set(store.subarray(place, place + UNIT), unit * UNIT);
  return seen;
}

async function contents(device: BlockDevice): Promise<Uint8Array> {
  const bytes = new Uint8Array(device.size);
  await device.read(0, bytes);
  return bytes;
}

describe("copy-on-write", () => {
  test("a cut after any step leaves each unit old or new, never a mix", () =>
    fc.assert(
      fc.asyncProperty(
        fc.nat(SIZE - 1),
        fc.integer({ min: 1, max: SIZE }),
        fc.boolean(),
        async (offset, wanted, zero) => {
          const length = Math.min(wanted, SIZE - offset);
          const old = pattern(SIZE, 1);
          const { device, log } = loggedFormat(old);
          if (zero) await device.zero(offset, length);
          else await device.write(offset, pattern(length, 2));
          const fresh = await contents(device);
          for (let cut = 0; cut <= log.length; cut++) {
            const seen = afterCut(old, log.slice(0, cut));
            for (let at = 0; at < SIZE; at += UNIT) {
              const unit = Buffer.from(seen.subarray(at, at + UNIT));
              const isOld = unit.equals(old.subarray(at, at + UNIT));
              expect(isOld || unit.equals(fresh.subarray(at, at + UNIT))).toBe(true);
            }
          }
          expect(Buffer.compare(afterCut(old, log), fresh)).toBe(0);
        },
      ),
      { numRuns: 60 },
    ));

  test("many writes at once to one unit give it one place, and all are kept", async () => {
    const old = pattern(SIZE, 1);
    const { device, count } = loggedFormat(old);
    const expected = old.slice();
    await Promise.all(
      Array.from({ length: 64 }, (_, i) => {
        const offset = UNIT + i * 64;
        expected.set(pattern(64, i), offset);
        return device.write(offset, pattern(64, i));
      }),
    );
    expect(count()).toBe(1);
    expect(Buffer.compare(await contents(device), expected)).toBe(0);
  });

  test("a failed allocation fails its write and leaves the lock free", async () => {
    let fail = true;
    const upper = memoryDevice(SIZE);
    const write = upper.write.bind(upper);
    upper.write = (offset, data) => (fail ? Promise.reject(new Error("full")) : write(offset, data));
    const device = overlayDevice(memoryDevice(pattern(SIZE, 1)), { unit: UNIT, upper });
    await expect(device.write(10, pattern(5, 1))).rejects.toThrow("full");
    expect(Buffer.compare(await contents(device), pattern(SIZE, 1))).toBe(0);
    fail = false;
    await device.write(10, pattern(5, 2));
    expect((await contents(device)).subarray(10, 15)).toEqual(pattern(5, 2));
  });

  test("an overlay never changes its base, and tells what lies below", async () => {
    const bytes = pattern(SIZE, 1);
    const device = overlayDevice(memoryDevice(bytes), { unit: UNIT });
    await device.write(UNIT + 1, pattern(10, 2));
    await device.zero(UNIT * 3, UNIT);
    expect(Buffer.compare(bytes, pattern(SIZE, 1))).toBe(0);
    const depths = [];
    for await (const { offset, length, depth } of device.extents(0, SIZE)) depths.push([offset, length, depth]);
    expect(depths).toEqual([
      [0, UNIT, 1],
      [UNIT, UNIT, 0],
      [UNIT * 2, UNIT, 1],
      [UNIT * 3, UNIT, 0],
    ]);
  });

  test("shared bytes without an allocator cannot be written", async () => {
    const base = memoryDevice(pattern(SIZE, 1));
    const device = mapDevice({
      label: "frozen",
      size: SIZE,
      blockSize: 1,
      writable: true,
      locate: async (offset, length) => ({ kind: "data", device: base, offset, length, shared: true }),
    });
    await expect(device.write(0, pattern(1, 1))).rejects.toMatchObject({ code: "READ_ONLY" });
  });
});

describe("bytes of larger blocks", () => {
  test("a whole-block write is not undone by a neighbour's read and write-back", async () => {
    const { byteGranular } = await import("#src/block/aligned.js");
    const bytes = new Uint8Array(4096);
    const slow = defineDevice({
      label: "slow",
      size: 4096,
      blockSize: 512,
      async read(offset, into) {
        into.set(bytes.subarray(offset, offset + into.length));
        await new Promise((resolve) => setTimeout(resolve, 2));
      },
      async write(offset, data) {
        bytes.set(data, offset);
      },
    });
    const device = byteGranular(slow);
    await Promise.all([
      device.write(512, pattern(5, 1)),
      device.write(512, pattern(512, 2)),
      device.write(1000, pattern(200, 3)),
    ]);
    const expected = new Uint8Array(4096);
    expected.set(pattern(512, 2), 512);
    expected.set(pattern(200, 3), 1000);
    expect(Buffer.compare(bytes, expected)).toBe(0);
  });
});
