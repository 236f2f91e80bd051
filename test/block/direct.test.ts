/** Files past the page cache: through io_uring, through the thread pool, and without native calls. */
import { closeSync, ftruncateSync, openSync, readFileSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type FileDeviceOptions, openFileDevice } from "#src/block/file.js";
import { DiskError } from "#src/errors.js";
import { ioRing } from "#src/os/io-ring.js";
import { libc } from "#src/os/libc.js";
import { pageMemory } from "#src/os/page-memory.js";
import { openDisk } from "#src/stack/disk.js";
import { describeBlockDevice } from "../contract/block-device.js";
import { tempDir } from "../support/temp-dir.js";

/** Ways to the disk; all of them must give the same. */
const WAYS: [string, FileDeviceOptions][] = [
  ["io_uring where there is one", { direct: true }],
  ["io_uring, blocks of 4096", { direct: { unit: 4096 } }],
  ["the thread pool", { direct: { ring: false } }],
  ["plain Node", { direct: true, native: false }],
];

function file(size: number, contents?: Uint8Array): string {
  const path = join(tempDir(), "disk.dsk");
  writeFileSync(path, contents ?? "");
  truncateSync(path, size);
  return path;
}

const able = await openFileDevice(file(8192), { direct: true }).then(
  (device) => device.close().then(() => true),
  () => false,
);

describe.skipIf(!able)(`direct access (${able ? "" : `none in ${tmpdir()}`})`, () => {
  for (const [way, options] of WAYS) {
    describeBlockDevice(
      `file past the cache, ${way}`,
      async ({ size, writable }) => ({ device: await openFileDevice(file(size), { writable, ...options }) }),
      { blockSizes: [1], runs: 8 },
    );

    test(`${way}: any order of requests in any memory gives what a plain buffer would have`, async () => {
      const size = 5 * 4096 + 1234;
      const device = await openFileDevice(file(size), { writable: true, ...options });
      const model = new Uint8Array(size);
      const memory = new Uint8Array(pageMemory(2 * size));
      const step = fc.record({
        write: fc.boolean(),
        offset: fc.nat({ max: size - 1 }),
        length: fc.nat({ max: 3 * 4096 }),
        unit: fc.constantFrom(1, 512, 4096),
        skew: fc.constantFrom(0, 0, 512, 3),
        byte: fc.integer({ min: 1, max: 255 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
          for (const { write, unit, skew, byte, ...at } of steps) {
            const offset = at.offset - (at.offset % unit);
            const length = Math.min(size - offset, Math.ceil(at.length / unit) * unit);
            const bytes = memory.subarray(skew, skew + length);
            if (write) {
              for (let i = 0; i < length; i++) bytes[i] = byte + i;
              model.set(bytes, offset);
              await device.write(offset, bytes);
            } else {
              bytes.fill(0xee);
              await device.read(offset, bytes);
              expect(Buffer.compare(bytes, model.subarray(offset, offset + length))).toBe(0);
            }
          }
        }),
        { numRuns: 30 },
      );
      await device.flush();
      await device.close();
      expect(Buffer.compare(readFileSync(device.path), model)).toBe(0);
    });

    test(`${way}: more requests at once than the ring has places`, async () => {
      const blocks = 700;
      const contents = new Uint8Array(blocks * 4096).map((_, i) => (i >>> 12) ^ (i >>> 20));
      const device = await openFileDevice(file(contents.length, contents), options);
      const memory = new Uint8Array(pageMemory(contents.length));
      await Promise.all(
        Array.from({ length: blocks }, (_, i) => device.read(i * 4096, memory.subarray(i * 4096, (i + 1) * 4096))),
      );
      expect(Buffer.compare(memory, contents)).toBe(0);
      await device.close();
    });

    test(`${way}: closing waits for what is under way`, async () => {
      const device = await openFileDevice(file(64 * 4096), { writable: true, ...options });
      const memory = new Uint8Array(pageMemory(64 * 4096)).fill(0x5a);
      const writes = Array.from({ length: 64 }, (_, i) =>
        device.write(i * 4096, memory.subarray(i * 4096, (i + 1) * 4096)),
      );
      await device.close();
      await Promise.all(writes);
      expect(readFileSync(device.path).every((byte) => byte === 0x5a)).toBe(true);
      await expect(device.read(0, memory)).rejects.toThrow(/closed/);
    });

    test(`${way}: a file that is cut while in use gives IO errors, and what is left of it`, async () => {
      const path = file(16 * 4096, new Uint8Array(16 * 4096).fill(7));
      const device = await openFileDevice(path, options);
      const fd = openSync(path, "r+");
      ftruncateSync(fd, 4 * 4096 + 512);
      closeSync(fd);
      const memory = new Uint8Array(pageMemory(8 * 4096));
      await device.read(0, memory.subarray(0, 4 * 4096));
      expect(memory.subarray(0, 4 * 4096).every((byte) => byte === 7)).toBe(true);
      for (const [offset, length] of [
        [12 * 4096, 4096],
        [0, 8 * 4096],
        [4 * 4096, 4096],
      ] as const)
        await expect(device.read(offset, memory.subarray(0, length))).rejects.toMatchObject({
          code: "IO",
          message: expect.stringMatching(/it ends at byte \d+, asked for/),
        });
      await device.read(0, memory.subarray(0, 4096));
      await device.close();
    });
  }

  test.skipIf(!libc())("writes at once to parts of one block and to its neighbours lose nothing", async () => {
    const device = await openFileDevice(file(8 * 4096), { writable: true, direct: { unit: 4096 } });
    const writes = Array.from({ length: 8 * 8 }, (_, i) => device.write(i * 512, new Uint8Array(512).fill(i + 1)));
    await Promise.all(writes);
    await device.close();
    const found = readFileSync(device.path);
    for (let i = 0; i < 64; i++) expect(found[i * 512]).toBe(i + 1);
  });

  test("a disk that is no file cannot be opened past the cache", async () => {
    const error = await openDisk("nbd://127.0.0.1:1/x", { direct: true }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(DiskError);
    expect(error).toMatchObject({ code: "UNSUPPORTED", message: expect.stringContaining("no file of this host") });
  });
});

test("a file system without direct access is refused by name, or has it", async () => {
  const path = "/proc/self/mounts"; // a regular file that O_DIRECT does not open
  const error = await openFileDevice(path, { direct: true, forceShare: true }).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: "UNSUPPORTED", message: expect.stringContaining("O_DIRECT") });
  expect(statfsSync(path).type).toBeGreaterThan(0);
});

test.skipIf(!libc())("memory for direct access begins at a page", () => {
  for (const size of [1, 4096, 65_536, 3_000_000])
    expect(libc()!.address(new Uint8Array(pageMemory(size))) % 4096).toBe(0);
});

test.skipIf(!ioRing())("the kernel's errors come back typed, and the ring goes on", async () => {
  const memory = new Uint8Array(pageMemory(4096));
  const ring = ioRing()!;
  expect(await ring.read(-1, 0, memory)).toBeLessThan(0);
  const path = file(4096, new Uint8Array(4096).fill(3));
  const fd = openSync(path, "r");
  expect(await ring.read(fd, 0, memory)).toBe(4096);
  expect(memory.every((byte) => byte === 3)).toBe(true);
  expect(await ring.write(fd, 0, memory)).toBeLessThan(0); // EBADF: it is open for reading
  closeSync(fd);
});
