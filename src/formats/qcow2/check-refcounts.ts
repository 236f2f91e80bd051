/** Compares the refcounts that an image has with the references that were counted, and lowers those that are too high. */
import type { Findings } from "./check-report.js";
import type { Qcow2Image } from "./image.js";
import type { ReferenceCounts } from "./reference-counts.js";

export interface CompareOptions {
  /** Called for each cluster whose refcount is wrong. */
  onWrong(cluster: number, stored: number, counted: number): void;
  /** Lower refcounts that are too high, in memory. */
  readonly mendLeaks: boolean;
}

/** Looks at the clusters that the file has, and those just behind that anything refers to. */
export async function compareRefcounts(
  image: Qcow2Image,
  counts: ReferenceCounts,
  findings: Findings,
  options: CompareOptions,
): Promise<void> {
  const { geometry, refcounts, file } = image;
  const { perSlice, width } = refcounts;
  const end = Math.ceil(file.size / geometry.clusterSize) + 1;
  for (let first = 0; first < end; first += perSlice) {
    const sliceEnd = Math.min(first + perSlice, end);
    const slice = await refcounts.slice(first);
    if (!slice && !counts.mayHave(first, sliceEnd)) continue;
    for (let cluster = first; cluster < sliceEnd; cluster++) {
      const stored = slice ? width.get(slice.view, cluster - first) : 0;
      const counted = counts.get(cluster);
      if (stored > 0 || counted > 0) findings.endCluster = cluster + 1;
      if (stored === counted) continue;
      options.onWrong(cluster, stored, counted);
      if (!slice || stored < counted || !options.mendLeaks) continue;
      width.set(slice.view, cluster - first, counted);
      refcounts.cache.markDirty(slice);
    }
    if (refcounts.cache.crowded) await refcounts.cache.writeDirty(); // in any order: a cut leaves leaks as there were
  }
}
