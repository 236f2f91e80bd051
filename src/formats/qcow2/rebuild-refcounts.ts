/**
 * New refcounts from what was counted, in a new place behind the end of the file:
 *
 *   | blocks ... | table ... |
 *
 * then a barrier, then the header is switched to them, then another barrier. A cut leaves the old refcounts or the new ones. Whatever was
 * wrong with the old table and blocks is gone with them: they are free now.
 */
import { DiskError } from "../../errors.js";
import type { Qcow2Image } from "./image.js";
import { MAX_REFCOUNT_TABLE_BYTES } from "./layout.js";
import type { ReferenceCounts } from "./reference-counts.js";

/** `counts` are all references but those to the old refcount table and blocks; `incompatible` features are switched together with them. */
export async function rebuildRefcounts(
  image: Qcow2Image,
  counts: ReferenceCounts,
  incompatible: bigint,
): Promise<void> {
  const { geometry, file, refcounts } = image;
  const { clusterSize, refcountBlockEntries } = geometry;
  const start = Math.ceil(file.size / clusterSize);
  const used = new Set<number>();
  for (const cluster of counts.clusters()) used.add(Math.floor(cluster / refcountBlockEntries));
  let [size, tableClusters] = [0, 0];
  for (let last = -1; last !== size; ) {
    last = size;
    for (let cluster = start; cluster < start + size; cluster++) used.add(Math.floor(cluster / refcountBlockEntries));
    tableClusters = Math.ceil((maxOf(used) + 1) / (clusterSize / 8));
    size = used.size + tableClusters;
  }
  if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot repair ${image.label}: its refcount table would be larger than ${MAX_REFCOUNT_TABLE_BYTES} bytes`,
    );
  for (let cluster = start; cluster < start + size; cluster++) counts.add(cluster, 1);
  await file.grow((start + size) * clusterSize);
  const table = new DataView(new ArrayBuffer(tableClusters * clusterSize));
  const blocks = [...used].sort((a, b) => a - b);
  for (const [i, number] of blocks.entries()) {
    const block = new DataView(new ArrayBuffer(clusterSize));
    for (let index = 0; index < refcountBlockEntries; index++) {
      const count = counts.get(number * refcountBlockEntries + index);
      if (count > refcounts.width.most) throw tooMany(image, number * refcountBlockEntries + index, count);
      if (count > 0) refcounts.width.set(block, index, count);
    }
    await file.write((start + i) * clusterSize, new Uint8Array(block.buffer));
    table.setBigUint64(number * 8, BigInt((start + i) * clusterSize));
  }
  const tableOffset = (start + blocks.length) * clusterSize;
  await file.write(tableOffset, new Uint8Array(table.buffer));
  await image.barrier();
  await image.writeHeader({ refcountTableOffset: tableOffset, refcountTableClusters: tableClusters, incompatible });
  await image.barrier();
  await image.reloadRefcounts();
}

function maxOf(numbers: Iterable<number>): number {
  let most = 0;
  for (const number of numbers) most = Math.max(most, number);
  return most;
}

function tooMany(image: Qcow2Image, cluster: number, count: number): DiskError {
  const { refcountOrder, clusterSize } = image.geometry;
  return new DiskError(
    "UNSUPPORTED",
    `Cannot repair ${image.label}: the cluster at byte ${cluster * clusterSize} is referred to ${count} times, refcounts have ${2 ** refcountOrder} bits`,
  );
}
