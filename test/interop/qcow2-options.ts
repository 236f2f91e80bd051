/** What qemu-img and we owe each other for a set of options: reading, changing, compressing, overlays, preallocation. */
import { describe, expect, test } from "vitest";
import { PREALLOCATIONS } from "#src/formats/format.js";
import {
  contents,
  createImage,
  expectClean,
  newBacking,
  openImage,
  qemuImg,
  qemuIo,
  writePacked,
} from "./qcow2-support.js";
import { qcow2World, SIZE } from "./qcow2-world.js";

/** Each as after `-o`. */
export function describeOptions(options: readonly string[]): void {
  const { path, disk, rawDisk, expectContents, change } = qcow2World();

  describe.each(options)("-o %s", (o) => {
    const args = o === "" ? [] : ["-o", o];

    test("we read and change what it wrote", async () => {
      const image = path();
      qemuImg("convert", "-f", "raw", "-O", "qcow2", ...args, rawDisk, image);
      const device = await openImage(image);
      expect((await contents(device)).equals(disk)).toBe(true);
      await device.close();
      const model = Buffer.from(disk);
      await change(image, model, 3);
      expectClean(image);
      expectContents(image, model);
    });

    test("we read and change what it compressed", async () => {
      const image = path();
      qemuImg("convert", "-c", "-f", "raw", "-O", "qcow2", ...args, rawDisk, image);
      const device = await openImage(image);
      expect((await contents(device)).equals(disk)).toBe(true);
      await device.close();
      const model = Buffer.from(disk);
      await change(image, model, 4);
      expectClean(image);
      expectContents(image, model);
    });

    test("it reads and changes what we wrote", async () => {
      const image = path();
      await createImage(image, SIZE, o);
      expectClean(image);
      const model = Buffer.alloc(SIZE);
      await change(image, model, 5);
      expectClean(image);
      qemuIo(image, "write -P 7 1M 300k", "discard 3M 1M", "write -z 3M 1M", "write -P 9 3500k 5k");
      model.fill(7, 1 << 20, (1 << 20) + 300 * 1024);
      model.fill(0, 3 << 20, 4 << 20);
      model.fill(9, 3500 * 1024, 3505 * 1024);
      const device = await openImage(image);
      expect((await contents(device)).equals(model)).toBe(true);
      await device.close();
      expectClean(image);
    });

    test("it reads what we packed", async () => {
      const image = path();
      await writePacked(image, disk, o);
      expectClean(image);
      expectContents(image, disk);
      const model = Buffer.from(disk);
      await change(image, model, 13);
      expectClean(image);
      expectContents(image, model);
    });

    test("an overlay over its image, shorter and longer than that", async () => {
      const base = path();
      qemuImg("convert", "-f", "raw", "-O", "qcow2", ...args, rawDisk, base);
      for (const size of [SIZE - 3_000_320, SIZE + 3_000_320]) {
        const image = path();
        const backing = await newBacking(base, "qcow2");
        await createImage(image, size, o, { backing });
        await backing.device.close();
        const model = Buffer.alloc(size);
        disk.copy(model, 0, 0, Math.min(size, SIZE));
        const device = await openImage(image, true);
        for (const [at, length] of [
          [100, 5000],
          [1 << 20, 512],
          [size - 70_000, 70_000],
        ] as const) {
          await device.write(at, Buffer.alloc(length, 0x42));
          model.fill(0x42, at, at + length);
        }
        await device.zero(2 << 20, 500_000);
        model.fill(0, 2 << 20, (2 << 20) + 500_000);
        expect((await contents(device)).equals(model)).toBe(true);
        await device.close();
        expectClean(image);
        expectContents(image, model);
        expect(JSON.parse(qemuImg("info", "--output=json", image))).toMatchObject({
          "backing-filename": base,
          "backing-filename-format": "qcow2",
        });
      }
    });

    test.each(PREALLOCATIONS.filter((one) => one !== "off"))("preallocation %s", async (preallocation) => {
      const image = path();
      await createImage(image, SIZE, o, { preallocation });
      expectClean(image);
      const device = await openImage(image, true);
      expect((await contents(device)).every((byte) => byte === 0)).toBe(true);
      await device.write(12345, Buffer.alloc(100_000, 3));
      await device.close();
      expectClean(image);
      qemuIo(image, "read -P 3 12345 100000", "read -P 0 0 12345");
      const theirs = path();
      qemuImg(
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        [o, `preallocation=${preallocation}`].filter(Boolean).join(","),
        theirs,
        String(SIZE),
      );
      await change(theirs, Buffer.alloc(SIZE), 6);
      expectClean(theirs);
    });
  });
}
