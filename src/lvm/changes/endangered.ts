/** Whom a change of a group would hurt: volumes whose users must not be there while it is made. Pure. */
import type { LogicalVolume, Segment, VolumeGroup } from "../metadata.js";
import { clusterOf, type SnapshotJoint, snapshotJoints } from "../segments/snapshot/roles.js";

export interface NeededLock {
  readonly volume: LogicalVolume;
  /** `read`: nobody may write it. */
  readonly mode: "read" | "write";
}

/** Nobody may use them. */
export function exclusive(volumes: readonly LogicalVolume[]): NeededLock[] {
  return volumes.map((volume) => ({ volume, mode: "write" }));
}

/** What is to be locked of `before` while it becomes `after`, in a fixed order. */
export function neededLocks(before: VolumeGroup, after: VolumeGroup | null): NeededLock[] {
  const endangered = endangeredVolumes(before, after);
  const locks = new Map<string, NeededLock>(endangered.map((volume) => [volume.id, { volume, mode: "write" }]));
  for (const { volume, mode } of snapshotLocks(before, after))
    if (!locks.has(volume.id)) locks.set(volume.id, { volume, mode });
  return [...locks.values()].sort((a, b) => (a.volume.id < b.volume.id ? -1 : 1));
}

/** Who writes an origin or one of its snapshots knows all of them; there must be nobody when they become others. */
function snapshotLocks(before: VolumeGroup, after: VolumeGroup | null): NeededLock[] {
  const now = jointsByOrigin(after);
  const old = jointsByOrigin(before);
  return before.logicalVolumes.flatMap((origin) => {
    const [a, b] = [old.get(origin.id) ?? "", now.get(origin.id) ?? ""];
    if (a === b) return [];
    return [
      { volume: origin, mode: "read" },
      { volume: clusterOf(origin), mode: "write" },
    ];
  });
}

function jointsByOrigin(group: VolumeGroup | null): Map<string, string> {
  const found = new Map<string, string>();
  if (!group) return found;
  const ids = new Map(group.logicalVolumes.map(({ name, id }) => [name, id]));
  const text = ({ cow, merging, volume }: SnapshotJoint) => `${ids.get(cow)} ${merging} ${volume.id};`;
  for (const joint of snapshotJoints(group)) {
    const origin = ids.get(joint.origin) ?? "";
    found.set(origin, (found.get(origin) ?? "") + text(joint));
  }
  return found;
}

/** The volumes of `before` that lose or move extents by a change, or go away with it. */
function endangeredVolumes(before: VolumeGroup, after: VolumeGroup | null): LogicalVolume[] {
  const left = new Map((after?.logicalVolumes ?? []).map((volume) => [volume.id, volume]));
  return before.logicalVolumes.filter((volume) => {
    const now = left.get(volume.id);
    return !now || !keepsExtents(volume, now);
  });
}

/** Every extent stays where it is; there may be more behind them. Rows of a striped segment that grows stay where they are. */
function keepsExtents(before: LogicalVolume, after: LogicalVolume): boolean {
  return before.segments.every((segment, i) => {
    const now = after.segments[i];
    return (
      now &&
      now.count >= segment.count &&
      JSON.stringify(placeOf(now, segment.count)) === JSON.stringify(placeOf(segment))
    );
  });
}

/** What a segment with `count` extents says of where they are. A thin one has them in its pool, whatever becomes of its origin. */
function placeOf(segment: Segment, count = segment.count): Segment {
  if (segment.type !== "thin") return { ...segment, count };
  const places = ["thin_pool", "device_id", "external_origin"];
  return { ...segment, count, fields: segment.fields.filter(({ key }) => places.includes(key)) };
}
