/** Empty raw images: sparse, reserved, or full of zeros. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fileDevice } from "#src/block/file.js";
import { raw } from "#src/formats/raw/index.js";
import { createStaged } from "#src/os/staged.js";
import { createOptions } from "../support/images.js";
import { tempDir } from "../support/temp-dir.js";

const MIB = 1 << 20;
const dir = tempDir();

async function made(name: string, size: number, preallocation: "off" | "falloc" | "full", signal?: AbortSignal) {
  const staged = await createStaged(join(dir, name));
  const reports: number[] = [];
  try {
    const file = fileDevice(staged.file, { own: false });
    const onProgress = (done: number) => reports.push(done);
    await raw.create(file, size, createOptions({ preallocation, onProgress, ...(signal ? { signal } : {}) }));
    const bytes = new Uint8Array(4096);
    if (size > 0) await file.read(size - bytes.length, bytes);
    return { size: file.size, stored: staged.file.allocatedSize(), zero: bytes.every((byte) => byte === 0), reports };
  } finally {
    await staged.abort();
  }
}

describe("creating", () => {
  test("sparse: nothing is stored, whatever the size", async () => {
    for (const size of [0, 16 * MIB, 2 ** 40])
      expect(await made("off.dsk", size, "off")).toMatchObject({ size, stored: 0, zero: true });
  });

  test("reserved and full: all of it is stored", async () => {
    for (const preallocation of ["falloc", "full"] as const) {
      const { size, stored, zero, reports } = await made(`${preallocation}.dsk`, 3 * MIB, preallocation);
      expect({ size, zero, reports }).toEqual({ size: 3 * MIB, zero: true, reports: [3 * MIB] });
      expect(stored).toBeGreaterThanOrEqual(3 * MIB);
    }
  });

  test("an abort stops it", async () => {
    await expect(made("aborted.dsk", MIB, "full", AbortSignal.abort(new Error("stop")))).rejects.toThrow("stop");
  });
});
