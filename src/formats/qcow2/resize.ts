/** Another size for the virtual disk. The header says the size, and is written last when the disk grows and when it shrinks. */
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import { l1EntriesFor } from "./geometry.js";
import type { Qcow2Image } from "./image.js";
import { MAX_L1_BYTES } from "./layout.js";
import { writeTables } from "./metadata.js";
import type { OpenedImage } from "./open.js";
import { PointerTable } from "./pointer-table.js";

/**
 * A larger L1 table, when the disk needs one:
 *
 *   the new table is counted and written   (a cut leaves it leaked)
 *   then the header is switched            (the old or the new table)
 *   then the old table is given up
 *
 * The caller holds `metadata`.
 */
export async function growL1(image: Qcow2Image, entries: number): Promise<void> {
  if (entries <= image.l1.entries) return;
  const { clusterSize } = image.geometry;
  if (entries * 8 > MAX_L1_BYTES)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot resize ${image.label}: its L1 table would have ${entries} entries, allowed ${MAX_L1_BYTES / 8} (that is ${(MAX_L1_BYTES / 8) * image.geometry.l2Reach} bytes with clusters of ${clusterSize}; larger clusters reach further)`,
    );
  await writeTables(image); // the L1 entries that still wait
  const clusters = Math.ceil((entries * 8) / clusterSize);
  const run = await image.allocator.takeRow(clusters);
  const bytes = new Uint8Array(entries * 8);
  bytes.set(image.l1.bytes);
  const table = new PointerTable(run.first * clusterSize, bytes);
  if (!run.fresh) await image.file.clear(table.offset, clusters * clusterSize);
  if (image.l1.entries > 0) await image.file.write(table.offset, image.l1.bytes);
  await writeTables(image);
  await image.writeHeader({ l1TableOffset: table.offset, l1Size: entries });
  await image.barrier();
  const old = image.l1;
  image.l1 = table;
  if (old.entries > 0) image.allocator.giveUp(old.offset / clusterSize, Math.ceil((old.entries * 8) / clusterSize));
}

/** What becomes visible reads as zeros, also where the last cluster or a longer backing file had something. */
export async function growImage({ image, device }: OpenedImage, size: number): Promise<void> {
  const old = image.size;
  await image.changes.run(0, Number.MAX_SAFE_INTEGER, () =>
    image.metadata.run(() => growL1(image, l1EntriesFor(size, image.geometry))),
  );
  const lastCluster = alignUp(old, image.geometry.clusterSize);
  const shown = Math.min(size, Math.max(lastCluster, image.backing?.size ?? 0));
  image.header = { ...image.header, size }; // in memory: so that the new end can be zeroed before anybody sees it
  try {
    if (shown > old) await device.zero(old, shown - old);
    await image.flush();
    await image.writeHeader({ size });
  } catch (error) {
    image.header = { ...image.header, size: old };
    throw error;
  }
  await image.barrier();
}

/** Clusters behind the new end are given up; the guest reads them as zeros until the header says the new size. */
export async function shrinkImage({ image, releaser }: OpenedImage, size: number): Promise<void> {
  const { geometry } = image;
  const from = alignUp(size, geometry.clusterSize);
  await image.changes.run(0, Number.MAX_SAFE_INTEGER, async () => {
    if (from < image.size) await releaser.release(from, image.size - from, "drop");
    await image.metadata.run(async () => {
      for (let i = l1EntriesFor(size, geometry); i < l1EntriesFor(image.size, geometry); i++) {
        const table = image.l1.target(i);
        if (table === 0) continue;
        image.l1.set(i, 0, false);
        image.allocator.giveUp(table / geometry.clusterSize, 1);
      }
      await writeTables(image);
      await image.writeHeader({ size });
      await image.barrier();
    });
  });
}
