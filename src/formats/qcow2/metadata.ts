/**
 * The order in which changed tables reach the disk. Tables change in memory only; guest data is in the file before an L2 entry
 * names it. Then, with a barrier (flush) where the text says "then":
 *
 *   1 refcount blocks, then the entries of the refcount table that name new blocks
 *     A cut here leaves clusters counted that nobody refers to: leaks.
 *   then
 *   2 L2 tables. The data that they name is on the disk by now, and counted. A cut leaves some of the new entries.
 *   then
 *   3 L1 entries that name new L2 tables, which are complete by now
 *   then
 *   4 refcount blocks with the counts of what nobody refers to any more. A cut leaves leaks. The clusters may be used again from
 *     here on: nothing on the disk refers to them.
 */
import type { Qcow2Image } from "./image.js";

export function hasDirtyTables({ l1, l2, refcounts, allocator }: Qcow2Image): boolean {
  return l1.dirty || l2.dirtyBytes > 0 || refcounts.table.dirty || refcounts.cache.dirtyBytes > 0 || allocator.pending;
}

/** The caller holds `metadata`. What could not be written stays to be written. */
export async function writeTables(image: Qcow2Image): Promise<void> {
  const { file, l2, refcounts, allocator, geometry } = image;
  await writeRefcounts(image);
  if (l2.dirtyBytes > 0 || image.l1.dirty) await image.barrier();
  await l2.writeDirty();
  if (image.l1.dirty) {
    await image.barrier();
    await image.l1.writeDirty(file);
  }
  await image.barrier();
  if (!allocator.pending) return;
  for (const { first, count } of await allocator.settle()) {
    const [offset, length] = [first * geometry.clusterSize, count * geometry.clusterSize];
    l2.forget(offset, length);
    refcounts.cache.forget(offset, length);
    await file.endless.discard(offset, length);
  }
  await writeRefcounts(image);
}

async function writeRefcounts(image: Qcow2Image): Promise<void> {
  const { cache, table } = image.refcounts;
  await cache.writeDirty();
  if (!table.dirty) return;
  await image.barrier();
  await table.writeDirty(image.file);
}
