/** What every image format owes: an empty disk of the asked size that reads as zeros, keeps what is written across opening, and is a good device. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fileDevice, openFileDevice } from "#src/block/file.js";
import type { ImageFormat, Preallocation } from "#src/formats/format.js";
import { createStaged } from "#src/os/staged.js";
import { createOptions, openContext } from "../support/images.js";
import { tempDir } from "../support/temp-dir.js";
import { describeBlockDevice } from "./block-device.js";

const MIB = 1 << 20;

export function describeImageFormat(format: ImageFormat): void {
  const dir = tempDir();
  let count = 0;

  /** A new image of `size` bytes, closed. */
  async function made(size: number, preallocation: Preallocation = "off"): Promise<string> {
    const path = join(dir, `${count++}.${format.extensions[0]}`);
    const staged = await createStaged(path);
    await format.create(fileDevice(staged.file, { own: false }), size, createOptions({ preallocation }));
    await staged.commit();
    return path;
  }

  const open = async (path: string, writable: boolean) =>
    format.open(await openFileDevice(path, { writable }), openContext());

  describe(`format ${format.name}`, () => {
    test("says its own magic, or none", async () => {
      const file = await openFileDevice(await made(MIB));
      const head = new Uint8Array(Math.min(512, file.size));
      await file.read(0, head);
      await file.close();
      expect(format.hasMagic(head)).toBe(format.name !== "raw");
    });

    test.each(format.preallocations)("an empty disk, preallocation %s", async (preallocation) => {
      const device = await open(await made(3 * MIB + 512, preallocation), false);
      const bytes = new Uint8Array(device.size).fill(1);
      await device.read(0, bytes);
      await device.close();
      expect([bytes.length, bytes.every((byte) => byte === 0)]).toEqual([3 * MIB + 512, true]);
    });

    test("keeps what is written across opening", async () => {
      const path = await made(8 * MIB);
      const writing = await open(path, true);
      await writing.write(5 * MIB - 512, new Uint8Array(1024).fill(7));
      await writing.close();
      const reading = await open(path, false);
      const bytes = new Uint8Array(2048);
      await reading.read(5 * MIB - 1024, bytes);
      await reading.close();
      expect([
        ...new Set(bytes.subarray(0, 512)),
        ...new Set(bytes.subarray(512, 1536)),
        ...new Set(bytes.subarray(1536)),
      ]).toEqual([0, 7, 0]);
    });

    test("16 TiB take as little as 16 MiB", async (context) => {
      const sizes = await Promise.all(
        [16 * MIB, 15 * 2 ** 40].map((size) => made(size).catch((error) => error as Error)),
      );
      if (sizes.some((outcome) => outcome instanceof Error))
        context.skip("the file system of the temporary folder refuses files of 15 TiB");
      const device = await open(sizes[1] as string, false);
      expect(device.size).toBe(15 * 2 ** 40);
      await device.close();
    });
  });

  describeBlockDevice(
    `format ${format.name}`,
    async ({ size, writable }) => ({ device: await open(await made(size), writable) }),
    { blockSizes: [1] },
  );
}
