/** The COPIED flags of the active tables: set where a refcount is exactly one. They allow to write in place. */
import type { Qcow2Image } from "./image.js";
import { L2Entries } from "./l2-entries.js";

export interface FlagOptions {
  /** Called for each flag that is wrong. */
  readonly onWrong?: (what: string, offset: number, refcount: number) => void;
  /** False: only look. */
  readonly mend: boolean;
}

/**
 * Compares every flag with the refcounts; entries that point to where nothing can be are left alone. The caller holds `metadata`; what
 * was changed is written by the next `writeTables`, in any order: a flag that a cut leaves wrong is as it was before.
 */
export async function syncCopiedFlags(image: Qcow2Image, { onWrong, mend }: FlagOptions): Promise<void> {
  const { l1, geometry, refcounts } = image;
  const entries = new L2Entries(geometry, image.hasDataFile);
  const countOf = async (offset: number) =>
    offset % geometry.clusterSize === 0 && offset <= image.file.size
      ? refcounts.get(offset / geometry.clusterSize)
      : null;
  for (let l1Index = 0; l1Index < l1.entries; l1Index++) {
    const table = l1.target(l1Index);
    const count = table === 0 ? null : await countOf(table);
    if (count === null) continue;
    if (l1.copied(l1Index) !== (count === 1)) {
      onWrong?.("L2 table", table, count);
      if (mend) l1.set(l1Index, table, count === 1);
    }
    if (!image.hasDataFile) await syncTable(table);
  }

  async function syncTable(table: number): Promise<void> {
    const perSlice = geometry.sliceSize / geometry.l2EntrySize;
    for (let at = 0; at < geometry.clusterSize; at += geometry.sliceSize) {
      if (mend) await image.makeRoom();
      const slice = await image.l2.get(table + at);
      const counts: (number | null)[] = [];
      for (let i = 0; i < perSlice; i++)
        counts.push(
          !entries.isCompressed(slice.view, i) && entries.hasPlace(slice.view, i)
            ? await countOf(entries.place(slice.view, i))
            : entries.copied(slice.view, i)
              ? 0 // neither compressed nor empty entries have the flag
              : null,
        );
      for (const [i, count] of counts.entries()) {
        if (count === null || entries.copied(slice.view, i) === (count === 1)) continue;
        onWrong?.("cluster", entries.place(slice.view, i), count);
        if (!mend) continue;
        entries.setCopied(slice.view, i, count === 1);
        image.l2.markDirty(slice);
      }
    }
  }
}
