/** A folder of qcow2 images, a sample disk, and changes of both an image and a Buffer. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { tempDir } from "../support/temp-dir.js";
import { contents, openImage, qemuImg, randomNumbers, sampleDisk } from "./qcow2-support.js";

export const SIZE = (6 << 20) + 512;

export function qcow2World() {
  const dir = tempDir();
  let count = 0;
  const path = (extension = "qcow2") => join(dir, `${count++}.${extension}`);
  const disk = sampleDisk(SIZE);
  const rawDisk = path("dsk");
  writeFileSync(rawDisk, disk);

  /** qemu-img finds these bytes in the image. */
  function expectContents(image: string, model: Uint8Array): void {
    const raw = path("dsk");
    writeFileSync(raw, model);
    qemuImg("compare", "-f", "raw", "-F", "qcow2", raw, image);
  }

  /** Changes all over an image and the same to `model`, in pieces of every size. */
  async function change(image: string, model: Buffer, seed: number): Promise<void> {
    const device = await openImage(image, true);
    const next = randomNumbers(seed);
    for (let i = 0; i < 60; i++) {
      const length = Math.min(SIZE, 1 + next([100, 5000, 70_000, 400_000][next(4)]!));
      const at = next(SIZE - length + 1);
      const what = next(4);
      if (what < 2) {
        const data = Buffer.alloc(length, 1 + next(255));
        await device.write(at, data);
        data.copy(model, at);
      } else if (what === 2) {
        await device.zero(at, length);
        model.fill(0, at, at + length);
      } else {
        await device.discard(at, length);
        await device.zero(at, length);
        model.fill(0, at, at + length);
      }
      if (next(10) === 0) await device.flush();
    }
    expect((await contents(device)).equals(model)).toBe(true);
    await device.close();
  }

  return { dir, path, disk, rawDisk, expectContents, change };
}
