import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type CopyOptions, copyDevice } from "#src/block/copy.js";
import { type BlockDevice, type Driver, defineDevice } from "#src/block/device.js";
import { fileDevice, openFileDevice } from "#src/block/file.js";
import { memoryDevice } from "#src/block/memory.js";
import { nullDevice } from "#src/block/null.js";
import { overlayDevice } from "#src/block/overlay.js";
import { slice } from "#src/block/slice.js";
import { openFile } from "#src/os/file.js";
import { createStaged } from "#src/os/staged.js";
import { pattern } from "../contract/block-device.js";
import { tempDir } from "../support/temp-dir.js";

const MIB = 1 << 20;

/** A sparse file with the given bytes at the given offsets. */
function sparseFile(path: string, size: number, pieces: readonly (readonly [number, Uint8Array])[]): string {
  const fd = openSync(path, "w");
  ftruncateSync(fd, size);
  for (const [offset, bytes] of pieces) writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
  return path;
}

async function copyFile(from: string, to: string, native: boolean, options: CopyOptions = {}) {
  const source = await openFileDevice(from, { native });
  const staged = await createStaged(to, { size: source.size, native });
  try {
    const result = await copyDevice(source, fileDevice(staged.file, { own: false }), {
      targetIsZero: true,
      ...options,
    });
    await staged.commit();
    return result;
  } finally {
    await staged.abort();
    await source.close();
  }
}

describe("copying files", () => {
  test.each([
    [true, "in the kernel"],
    [false, "without native calls"],
  ])("native %s: %s the bytes are the same and holes stay holes", async (native) => {
    const folder = tempDir();
    const pieces = [
      [0, pattern(4096, 1)],
      [3 * MIB + 512, pattern(2 * MIB + 77, 2)],
      [40 * MIB - 100, pattern(100, 3)],
    ] as const;
    const from = sparseFile(join(folder, "a"), 40 * MIB, pieces);
    const result = await copyFile(from, join(folder, "b"), native, { verify: true });
    expect(Buffer.compare(readFileSync(from), readFileSync(join(folder, "b")))).toBe(0);
    expect(result.copied + result.zeroed + result.skipped).toBe(40 * MIB);
    expect(result.zeroed).toBe(0);
    if (native) {
      expect(result.skipped).toBeGreaterThan(37 * MIB);
      expect(statSync(join(folder, "b")).blocks).toBeLessThanOrEqual(statSync(from).blocks + 16);
    } else {
      expect(result.inKernel).toBe(0);
    }
    expect(statSync(join(folder, "b")).blocks * 512).toBeLessThan(3 * MIB);
  });

  test("between files that the kernel can copy no byte passes through", async () => {
    const folder = tempDir();
    const from = sparseFile(join(folder, "a"), 9 * MIB, [[MIB, pattern(5 * MIB, 4)]]);
    const probe = await openFile(from);
    const other = await openFile(join(folder, "probe"), { create: true });
    const able = (await probe.copyRangeTo(other, MIB, 0, 4096)) > 0;
    await probe.close();
    await other.close();
    const { copied, inKernel } = await copyFile(from, join(folder, "b"), true);
    expect(inKernel).toBe(able ? copied : 0);
    expect(copied).toBe(5 * MIB);
  });

  test("stored zeros stay out of the target when asked", async () => {
    const folder = tempDir();
    writeFileSync(join(folder, "a"), new Uint8Array(8 * MIB));
    const plain = await copyFile(join(folder, "a"), join(folder, "b"), true, { detectZeros: "always" });
    expect(plain).toMatchObject({ copied: 0, skipped: 8 * MIB });
    expect(statSync(join(folder, "b")).blocks).toBe(0);
  });

  test("ranges: a partition's bytes go to another disk's middle, the rest stays", async () => {
    const folder = tempDir();
    const source = await openFileDevice(sparseFile(join(folder, "a"), 8 * MIB, [[2 * MIB, pattern(MIB, 5)]]));
    writeFileSync(join(folder, "b"), pattern(10 * MIB, 6));
    const target = await openFileDevice(join(folder, "b"), { writable: true });
    await copyDevice(slice(source, MIB, 4 * MIB), target, { targetOffset: 3 * MIB, verify: true });
    const expected = Buffer.from(pattern(10 * MIB, 6));
    expected.fill(0, 3 * MIB, 7 * MIB);
    expected.set(pattern(MIB, 5), 4 * MIB);
    await Promise.all([source.close(), target.close()]);
    expect(Buffer.compare(readFileSync(join(folder, "b")), expected)).toBe(0);
  });
});

describe("copying devices", () => {
  test("any contents, over any old contents", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(300), fc.integer({ min: 1, max: 40 }), fc.nat(3)), { maxLength: 12 }),
        fc.boolean(),
        fc.boolean(),
        async (writes, dirty, blocks) => {
          const size = 340 * 4096 + 512;
          const source = overlayDevice(nullDevice(size, { blockSize: 512 }), { unit: 4096 });
          for (const [page, count, seed] of writes) {
            const length = Math.min(count * 4096, size - page * 4096);
            await source.write(page * 4096, seed === 0 ? new Uint8Array(length) : pattern(length, seed));
          }
          const bytes = dirty ? pattern(size, 77) : new Uint8Array(size);
          const target = memoryDevice(bytes, { blockSize: blocks ? 512 : 1 });
          const result = await copyDevice(source, target, { targetIsZero: !dirty, verify: true });
          const expected = new Uint8Array(size);
          await source.read(0, expected);
          expect(Buffer.compare(bytes, expected)).toBe(0);
          expect(result.copied + result.zeroed + result.skipped).toBe(size);
        },
      ),
      { numRuns: 60 },
    ));

  test("holes are never read, not even of 16 TiB", async () => {
    const size = 2 ** 44;
    const source = overlayDevice(nullDevice(size), { unit: 65536 });
    await source.write(2 ** 43, pattern(65536, 1));
    const reads: number[] = [];
    const watched = {
      ...wrapped(source),
      read(offset: number, into: Uint8Array) {
        reads.push(offset);
        return source.read(offset, into);
      },
    };
    const target = overlayDevice(nullDevice(size));
    const result = await copyDevice(defineDevice(watched), target, { targetIsZero: true });
    expect(reads).toEqual([2 ** 43]);
    expect(result).toEqual({ copied: 65536, zeroed: 0, skipped: size - 65536, inKernel: 0 });
  });

  test("memory in flight is bounded", async () => {
    let [now, most] = [0, 0];
    const source = defineDevice({
      label: "counting",
      size: 64 * MIB,
      async read(_offset, into) {
        most = Math.max(most, (now += into.length));
        await new Promise((resolve) => setImmediate(resolve));
        into.fill(1);
        now -= into.length;
      },
    });
    await copyDevice(source, nullDevice(64 * MIB));
    expect(most).toBeGreaterThan(MIB); // several at once
    expect(most).toBeLessThanOrEqual(8 * MIB);
  });

  test("progress grows to the whole", async () => {
    const seen: number[] = [];
    await copyDevice(memoryDevice(20 * MIB), nullDevice(20 * MIB), {
      onProgress: (done, total) => seen.push(done / total),
    });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(1);
  });

  test("an abort ends it with the signal's reason and nothing in flight", async () => {
    const controller = new AbortController();
    let inFlight = 0;
    const source = defineDevice({
      label: "slow",
      size: 256 * MIB,
      async read(_offset, into) {
        inFlight++;
        await new Promise((resolve) => setImmediate(resolve));
        into[0] = 1;
        inFlight--;
      },
    });
    const reason = new Error("stop");
    const onProgress = (done: number) => done > 30 * MIB && controller.abort(reason);
    await expect(copyDevice(source, nullDevice(256 * MIB), { signal: controller.signal, onProgress })).rejects.toBe(
      reason,
    );
    expect(inFlight).toBe(0);
  });

  test("a failing write is the copy's failure", async () => {
    const full = new Error("full");
    const target = defineDevice({
      ...nothing(32 * MIB),
      write: (offset) => (offset > 9 * MIB ? Promise.reject(full) : Promise.resolve()),
    });
    await expect(copyDevice(memoryDevice(pattern(32 * MIB, 1)), target)).rejects.toBe(full);
  });

  test("verify finds a byte that the target did not keep, and names it", async () => {
    const bytes = new Uint8Array(4 * MIB);
    const target = defineDevice({
      label: "forgetful",
      size: bytes.length,
      read: async (offset, into) => into.set(bytes.subarray(offset, offset + into.length)),
      async write(offset, data) {
        bytes.set(data, offset);
        if (offset <= 2_345_678 && 2_345_678 < offset + data.length) bytes[2_345_678]! ^= 1;
      },
    });
    const source = memoryDevice(pattern(4 * MIB, 8));
    await copyDevice(source, target);
    await expect(copyDevice(source, target, { verify: true })).rejects.toMatchObject({
      code: "IO",
      details: { offset: 2_345_678 },
    });
  });

  test.each<[string, CopyOptions]>([
    ["more than the source has", { length: MIB + 1 }],
    ["behind the target's end", { targetOffset: 1 }],
    ["from before the start", { sourceOffset: -1 }],
  ])("refuses to copy %s", async (_what, options) => {
    await expect(copyDevice(memoryDevice(MIB), memoryDevice(MIB), options)).rejects.toThrow(RangeError);
  });

  test("refuses overlapping ranges of one device, copies others", async () => {
    const device = memoryDevice(pattern(MIB, 3));
    await expect(copyDevice(device, device, { targetOffset: 100, length: 200 })).rejects.toThrow(/overlap/);
    await copyDevice(device, device, { targetOffset: 4096, length: 4096, verify: true });
  });
});

function nothing(size: number): Driver {
  return { label: "sink", size, read: async (_offset, into) => void into.fill(0), write: async () => {} };
}

function wrapped(device: BlockDevice): Driver {
  return {
    label: device.label,
    size: device.size,
    read: device.read.bind(device),
    extents: device.extents.bind(device),
  };
}

describe("long copies past the page cache", () => {
  test("the bytes are the same, holes stay holes, ends in part and zeros within data as well", async () => {
    const folder = tempDir();
    const data = pattern(6 * MIB + 1234, 4);
    data.fill(0, 2 * MIB + 8192, 2 * MIB + 40_960);
    const from = sparseFile(join(folder, "a"), 24 * MIB + 777, [
      [0, pattern(3 * MIB, 1)],
      [9 * MIB, data],
      [24 * MIB, pattern(777, 5)],
    ]);
    const result = await copyFile(from, join(folder, "b"), true, { cacheAtMost: 0, verify: true });
    expect(Buffer.compare(readFileSync(from), readFileSync(join(folder, "b")))).toBe(0);
    expect(result.copied + result.skipped).toBe(24 * MIB + 777);
    expect(statSync(join(folder, "b")).blocks).toBeLessThanOrEqual(statSync(from).blocks + 16);
  });

  test("the same between pieces that are not aligned to each other", async () => {
    const folder = tempDir();
    const source = await openFileDevice(sparseFile(join(folder, "a"), 8 * MIB, [[MIB, pattern(5 * MIB, 2)]]));
    const staged = await createStaged(join(folder, "b"), { size: 9 * MIB });
    const target = fileDevice(staged.file, { own: false });
    const options = { sourceOffset: 1000, targetOffset: 512, targetIsZero: true, cacheAtMost: 0, verify: true };
    await copyDevice(source, target, options);
    await staged.commit();
    await source.close();
    const expected = readFileSync(join(folder, "a")).subarray(1000);
    expect(Buffer.compare(readFileSync(join(folder, "b")).subarray(512, 512 + expected.length), expected)).toBe(0);
  });
});
