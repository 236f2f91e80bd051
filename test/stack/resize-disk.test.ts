/** Larger and smaller disks: the backup GPT follows, and nothing that belongs to somebody is cut. */
import { readFileSync, statSync, truncateSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readPartitionTable } from "#src/partitions/table.js";
import { openDisk, openDiskStack } from "#src/stack/disk.js";
import { type ResizeOptions, resizeDisk } from "#src/stack/resize-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { MIB, partitionedFile, poke, sparseFile } from "./support.js";

const dir = tempDir();

async function resize(name: string, size: number, options: ResizeOptions = {}) {
  const disk = await openDiskStack(name, { writable: true });
  try {
    return await resizeDisk(disk, size, options);
  } finally {
    await disk.device.close();
  }
}

async function table(path: string) {
  const device = await openDisk(path);
  const found = await readPartitionTable(device);
  await device.close();
  return found;
}

describe("a disk without a table", () => {
  test("grows, and shrinks down to its data", async () => {
    const path = sparseFile(dir, "plain.dsk", 4 * MIB);
    await poke(path, 3 * MIB + 100, "x");
    expect(await resize(path, 8 * MIB)).toMatchObject({ oldSize: 4 * MIB, newSize: 8 * MIB });
    await expect(resize(path, 4 * MIB)).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("--shrink"),
    });
    await expect(resize(path, 3 * MIB, { shrink: true })).rejects.toMatchObject({
      code: "DENIED",
      details: { offset: 3 * MIB + 100 },
    });
    await resize(path, 3 * MIB + 512, { shrink: true });
    expect(statSync(path).size).toBe(3 * MIB + 512);
    expect((await resize(path, 3 * MIB + 512)).steps).toEqual(["nothing to do"]);
  });

  test("a file system that would be cut is named", async () => {
    const path = sparseFile(dir, "swap.dsk", 8 * MIB);
    const swap = Buffer.alloc(4096);
    swap.write("SWAPSPACE2", 4086);
    swap.writeUInt32LE(1, 1024);
    swap.writeUInt32LE(2047, 1028);
    await poke(path, 0, swap);
    await expect(resize(path, 4 * MIB, { shrink: true })).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("swap of 8 MiB"),
    });
    await resize(path, 16 * MIB);
    await resize(path, 8 * MIB, { shrink: true });
  });

  test("parts and sizes that cannot be are refused", async () => {
    const path = await partitionedFile(dir, "part.dsk", 16 * MIB, [4 * MIB]);
    await expect(resize(`${path}#p1`, 8 * MIB)).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await expect(resize(path, 2 ** 53 - 512)).rejects.toMatchObject({ code: "NO_SPACE" });
    expect(statSync(path).size).toBe(16 * MIB);
  });
});

describe("a disk with a GPT", () => {
  test("the backup follows the end, both ways, and leaves nothing behind", async () => {
    const path = await partitionedFile(dir, "gpt.dsk", 64 * MIB, [10 * MIB, 20 * MIB]);
    const before = await table(path);
    expect((await resize(path, 100 * MIB)).steps.join("\n")).toMatch(/move the backup GPT/);
    const grown = await table(path);
    expect(grown).toMatchObject({ size: 100 * MIB, problems: [], partitions: before!.partitions });
    expect(
      readFileSync(path)
        .subarray(60 * MIB, 90 * MIB)
        .every((byte) => byte === 0),
    ).toBe(true); // the old backup too

    await expect(resize(path, 30 * MIB, { shrink: true })).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringMatching(/partition 2 would be cut, allowed from 32505856/),
    });
    await expect(resize(path, 31 * MIB, { shrink: true })).rejects.toMatchObject({ code: "NO_SPACE" }); // no room for the backup
    await resize(path, 40 * MIB, { shrink: true });
    expect(await table(path)).toMatchObject({ size: 40 * MIB, problems: [], partitions: before!.partitions });
    expect(statSync(path).size).toBe(40 * MIB);
  });

  test("bytes in free space are somebody's too", async () => {
    const path = await partitionedFile(dir, "hidden.dsk", 64 * MIB, [10 * MIB]);
    await poke(path, 50 * MIB, "hidden");
    await expect(resize(path, 40 * MIB, { shrink: true })).rejects.toMatchObject({ details: { offset: 50 * MIB } });
    expect(await table(path)).toMatchObject({ size: 64 * MIB, problems: [] });
  });

  test("a damaged table is mended first; a backup that is not at the end is not damage here", async () => {
    const path = await partitionedFile(dir, "damaged.dsk", 64 * MIB, [10 * MIB]);
    await poke(path, 512, "not a GPT header");
    const before = readFileSync(path);
    await expect(resize(path, 96 * MIB)).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("xvd part repair"),
    });
    expect(readFileSync(path).equals(before)).toBe(true);
    const stretched = await partitionedFile(dir, "stretched.dsk", 64 * MIB, [10 * MIB]);
    truncateSync(stretched, 80 * MIB);
    await resize(stretched, 96 * MIB);
    expect(await table(stretched)).toMatchObject({ size: 96 * MIB, problems: [] });
  });

  test("a dry run tells and does nothing", async () => {
    const path = await partitionedFile(dir, "dry.dsk", 64 * MIB, [10 * MIB]);
    const before = readFileSync(path);
    for (const size of [96 * MIB, 32 * MIB]) {
      const { steps } = await resize(path, size, { shrink: true, dryRun: true });
      expect(steps.join("\n")).toMatch(/(grow|shrink) .*to \d+ bytes/);
      expect(steps.join("\n")).toMatch(/write \d+ bytes at \d+/);
    }
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test("an MBR has nothing at the end", async () => {
    const path = await partitionedFile(dir, "mbr.dsk", 64 * MIB, [10 * MIB], "mbr");
    await resize(path, 80 * MIB);
    await resize(path, 20 * MIB, { shrink: true });
    expect(await table(path)).toMatchObject({ label: "dos", size: 20 * MIB, problems: [] });
    await expect(resize(path, 8 * MIB, { shrink: true })).rejects.toMatchObject({
      message: expect.stringContaining("partition 1 would be cut"),
    });
  });
});

test.each([512, 1024, 16 * 512, 33 * 512, 34 * 512])(
  "larger, then smaller by %i bytes, less than the backup GPT: the new backup lies over the old one and is whole",
  async (change) => {
    const path = await partitionedFile(dir, `near${change}.dsk`, 4 * MIB, [MIB]);
    await resize(path, 4 * MIB + change);
    expect(await table(path)).toMatchObject({ problems: [] });
    await resize(path, 4 * MIB, { shrink: true });
    expect(await table(path)).toMatchObject({ problems: [] });
  },
);
