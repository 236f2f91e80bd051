/** How many extents of each physical volume nobody uses, whether or not they may be allocated. */
import { usedRuns } from "./check-group.js";
import type { VolumeGroup } from "./metadata.js";

const counted = new WeakMap<VolumeGroup, ReadonlyMap<string, number>>();

/** By the local name of each volume. Counted once for each group: reports ask for every row. */
export function freeExtents(group: VolumeGroup): ReadonlyMap<string, number> {
  let free = counted.get(group);
  if (!free) {
    const runs = usedRuns(group);
    free = new Map(
      group.physicalVolumes.map((pv) => [
        pv.name,
        pv.peCount - (runs.get(pv.name) ?? []).reduce((sum, { count }) => sum + count, 0),
      ]),
    );
    counted.set(group, free);
  }
  return free;
}
