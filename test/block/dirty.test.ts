/** Dirty ranges: what a copy of a device in use must do again. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { trackDirty } from "#src/block/dirty.js";
import { memoryDevice } from "#src/block/memory.js";

const SIZE = 300_000;

test("units that a change touches, joined, ascending, cut at the device's end; taking makes clean", async () => {
  const device = memoryDevice(SIZE);
  const tracked = trackDirty(device, 4096);
  await device.write(4095, Buffer.alloc(2));
  await device.zero(3 * 4096, 4096);
  await device.discard(SIZE - 1, 1);
  expect(tracked.dirty).toBe(4 * 4096);
  expect([...tracked.take()]).toEqual([
    { offset: 0, length: 2 * 4096 },
    { offset: 3 * 4096, length: 4096 },
    { offset: 73 * 4096, length: SIZE - 73 * 4096 },
  ]);
  expect(tracked.dirty).toBe(0);
  expect([...tracked.take()]).toEqual([]);
});

test("a change counts when it has ended, also badly; reads and flushes do not", async () => {
  const device = memoryDevice(SIZE);
  let end = (_error?: Error) => {};
  device.write = () => new Promise((resolve, reject) => (end = (error) => (error ? reject(error) : resolve())));
  const tracked = trackDirty(device, 4096);
  const writing = device.write(0, Buffer.alloc(1));
  await device.read(0, Buffer.alloc(1));
  await device.flush();
  expect(tracked.dirty).toBe(0);
  end(new Error("half of it is written"));
  await expect(writing).rejects.toThrow("half");
  expect(tracked.dirty).toBe(4096);
});

test("after stop the device is the one it was", async () => {
  const device = memoryDevice(SIZE);
  const before = device.write;
  const tracked = trackDirty(device, 4096);
  expect(device.write).not.toBe(before);
  tracked.stop();
  expect(device.write).toBe(before);
  expect(Object.keys(device)).not.toContain("write");
  await device.write(0, Buffer.alloc(1));
  expect(tracked.dirty).toBe(0);
});

test("few bits for a large device: 64 KiB units, then larger ones", () => {
  const unitOf = (size: number) => trackDirty({ ...memoryDevice(4096), size } as BlockDevice).unit;
  expect([1 << 20, 2 ** 40, 2 ** 41, 2 ** 50].map(unitOf)).toEqual([65536, 65536, 131072, 2 ** 26]);
});

test("rounds beside random changes end in the same contents", async () => {
  const change = fc.record({
    kind: fc.constantFrom("write", "zero"),
    offset: fc.nat(SIZE - 1),
    length: fc.integer({ min: 1, max: 20_000 }),
    value: fc.nat(255),
    takeBefore: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(change, { minLength: 1, maxLength: 30 }),
      fc.constantFrom(512, 4096, 65536),
      async (changes, unit) => {
        const device = memoryDevice(SIZE);
        const copy = memoryDevice(SIZE);
        const tracked = trackDirty(device, unit);
        const round = async () => {
          for (const { offset, length } of tracked.take()) {
            const part = Buffer.alloc(length);
            await device.read(offset, part);
            await copy.write(offset, part);
          }
        };
        for (const { kind, offset, length, value, takeBefore } of changes) {
          const size = Math.min(length, SIZE - offset);
          const beside = takeBefore ? round() : Promise.resolve();
          if (kind === "write") await device.write(offset, Buffer.alloc(size, value));
          else await device.zero(offset, size);
          await beside;
        }
        await round();
        const [a, b] = [Buffer.alloc(SIZE), Buffer.alloc(SIZE)];
        await device.read(0, a);
        await copy.read(0, b);
        expect(a.equals(b)).toBe(true);
      },
    ),
    { numRuns: 60 },
  );
});
