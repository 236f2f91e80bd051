/** Everything that an L1 table reaches, to count it once more or once less. Callers hold the image's `metadata`. */
import { DiskError } from "../../errors.js";
import type { Qcow2Image } from "./image.js";
import { L2Entries } from "./l2-entries.js";
import { writeTables } from "./metadata.js";
import type { PointerTable } from "./pointer-table.js";
import { readL2Table, referencesOf } from "./references.js";

/** Every cluster that the table reaches is referred to once more. When that cannot be (`UNSUPPORTED`, `CORRUPT`), none is. */
export async function countTables(image: Qcow2Image, l1: PointerTable): Promise<void> {
  let done = 0;
  try {
    for await (const { first, count } of reached(image, l1)) {
      await image.refcounts.add(first, count, 1);
      done++;
      if (image.refcounts.cache.crowded) await writeTables(image);
    }
  } catch (error) {
    for await (const { first, count } of reached(image, l1)) {
      if (done-- === 0) break;
      image.allocator.giveUp(first, count);
    }
    throw error;
  }
}

/** The table itself and every cluster that it reaches are referred to once less. Nothing on the disk refers to it any more. */
export async function giveUpTables(image: Qcow2Image, l1: PointerTable): Promise<void> {
  for await (const { first, count } of reached(image, l1)) {
    image.allocator.giveUp(first, count);
    if (image.allocator.crowded) await writeTables(image);
  }
  const { clusterSize } = image.geometry;
  if (l1.entries > 0) image.allocator.giveUp(l1.offset / clusterSize, Math.ceil((l1.entries * 8) / clusterSize));
}

async function* reached(image: Qcow2Image, l1: PointerTable): AsyncGenerator<{ first: number; count: number }> {
  const { geometry, file, hasDataFile } = image;
  const { clusterSize } = geometry;
  const entries = new L2Entries(geometry, hasDataFile);
  for (let i = 0; i < l1.entries; i++) {
    const table = l1.target(i);
    if (table === 0) continue;
    if (table % clusterSize !== 0 || table > file.size) throw corrupt(image, table);
    yield { first: table / clusterSize, count: 1 };
    const view = await readL2Table(file, geometry, table);
    if (!view || hasDataFile) continue;
    for (const { offset, length, compressed } of referencesOf(view, entries, geometry)) {
      if (offset > file.size || (!compressed && offset % clusterSize !== 0)) throw corrupt(image, offset);
      const first = Math.floor(offset / clusterSize);
      yield { first, count: Math.floor((offset + length - 1) / clusterSize) - first + 1 };
    }
  }
}

function corrupt(image: Qcow2Image, offset: number): DiskError {
  return new DiskError(
    "CORRUPT",
    `Cannot use ${image.label}: a table refers to byte ${offset}; repair the image first`,
    {
      details: { offset },
    },
  );
}
