/** A snapshot on its way back into its origin, and gone when it has arrived. Pure; `segments/snapshot/merge.ts` moves the bytes. */
import { DiskError } from "../../errors.js";
import { assign } from "../config/tree.js";
import { findVolume, type VolumeGroup } from "../metadata.js";
import { snapshotOf, snapshotsOn } from "../segments/snapshot/roles.js";
import type { GroupPlan } from "./plan.js";

/** From now on the origin has the snapshot's contents, wherever they lie; the snapshot is no volume of its own any more. */
export function planBeginMerge(group: VolumeGroup, name: string): GroupPlan {
  const volume = findVolume(group, name);
  const full = `${group.name}/${name}`;
  const joint = snapshotOf(group, name);
  if (!joint) throw new DiskError("DENIED", `Logical volume ${full} is not a mergeable snapshot: it has no origin`);
  if (joint.merging) throw new DiskError("DENIED", `Snapshot ${full} is already merging`);
  const origin = findVolume(group, joint.origin);
  const other = snapshotsOn(group, origin.name).find(({ merging }) => merging);
  if (other)
    throw new DiskError("DENIED", `Cannot merge snapshot ${full}: ${other.cow} is merging into ${origin.name} already`);
  if (origin.status.includes("LOCKED"))
    throw new DiskError("DENIED", `Cannot merge snapshot ${full}: its origin ${origin.name} is locked`);
  const logicalVolumes = group.logicalVolumes.map((other) => {
    if (other === joint.volume)
      return {
        ...other,
        status: other.status.filter((status) => status !== "VISIBLE"),
        segments: other.segments.map((segment) => ({
          ...segment,
          fields: segment.fields.map((field) => (field.key === "cow_store" ? assign("merging_store", name) : field)),
        })),
      };
    return other === volume ? { ...other, status: other.status.filter((status) => status !== "VISIBLE") } : other;
  });
  return { group: { ...group, logicalVolumes }, steps: [] };
}

/** Everything is in the origin: the store and its joint go. */
export function planEndMerge(group: VolumeGroup, name: string): GroupPlan {
  const joint = snapshotOf(group, name);
  if (!joint?.merging)
    throw new DiskError("DENIED", `Cannot finish the merge of ${group.name}/${name}: it is not merging`);
  return {
    group: {
      ...group,
      logicalVolumes: group.logicalVolumes.filter((volume) => volume !== joint.volume && volume.name !== name),
    },
    steps: [
      `Merge of snapshot into logical volume ${group.name}/${joint.origin} has finished.`,
      `Logical volume "${name}" successfully removed.`,
    ],
  };
}
