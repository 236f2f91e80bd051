/** Small partitioned image files. */
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openFileDevice } from "#src/block/file.js";
import { planAdd } from "#src/partitions/changes/add.js";
import { planInit } from "#src/partitions/changes/init.js";
import { readPartitionTable, type SectorSize } from "#src/partitions/table.js";
import { writePlan } from "#src/partitions/write.js";
import { seededRandom } from "../partitions/support.js";

export const MIB = 1 << 20;

/** A sparse file of `size` bytes. */
export function sparseFile(dir: string, name: string, size: number): string {
  const path = join(dir, name);
  writeFileSync(path, "");
  truncateSync(path, size);
  return path;
}

/** The same with a partition table and partitions of these sizes. */
export async function partitionedFile(
  dir: string,
  name: string,
  size: number,
  sizes: number[],
  format = "gpt",
  sectorSize: SectorSize = 512,
): Promise<string> {
  const path = sparseFile(dir, name, size);
  const device = await openFileDevice(path, { writable: true });
  const random = seededRandom();
  await writePlan(device, planInit(device, null, { format, sectorSize }, random));
  for (const each of sizes)
    await writePlan(device, planAdd((await readPartitionTable(device))!, { size: each }, random));
  await device.close();
  return path;
}

/** Writes `bytes` into a file at `offset`. */
export async function poke(path: string, offset: number, bytes: Uint8Array | string): Promise<void> {
  const device = await openFileDevice(path, { writable: true });
  await device.write(offset, Buffer.from(bytes as string));
  await device.close();
}
