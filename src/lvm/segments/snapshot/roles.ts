/**
 * Who is whose snapshot, as the text says it: a volume `snapshotN` of one segment joins an origin and a store; the store's volume has
 * the snapshot's name.
 */
import { SECTOR } from "../../layout.js";
import { type LogicalVolume, numberField, type Segment, textField, type VolumeGroup } from "../../metadata.js";
import { DEFAULT_CHUNK } from "./layout.js";

export interface SnapshotJoint {
  /** The joining volume. */
  readonly volume: LogicalVolume;
  readonly segment: Segment;
  readonly origin: string;
  /** The snapshot's name: that of its store. */
  readonly cow: string;
  /** It is to go back into its origin. */
  readonly merging: boolean;
}

export function snapshotJoints({ logicalVolumes }: Pick<VolumeGroup, "logicalVolumes">): SnapshotJoint[] {
  return logicalVolumes.flatMap((volume) => jointOf(volume) ?? []);
}

function jointOf(volume: LogicalVolume): SnapshotJoint | null {
  const [segment] = volume.segments;
  if (segment?.type !== "snapshot") return null;
  const origin = textField(segment, "origin");
  const merging = textField(segment, "merging_store");
  const cow = merging ?? textField(segment, "cow_store");
  return origin === null || cow === null ? null : { volume, segment, origin, cow, merging: merging !== null };
}

/** The snapshots of a volume, in the order of the text. */
export function snapshotsOn(group: VolumeGroup, origin: string): SnapshotJoint[] {
  return snapshotJoints(group).filter((joint) => joint.origin === origin);
}

/** Of the volume that is a snapshot's store. */
export function snapshotOf(group: VolumeGroup, name: string): SnapshotJoint | undefined {
  return snapshotJoints(group).find((joint) => joint.cow === name);
}

/** Bytes, as the group says; the store's header overrides it. */
export function chunkSizeOf({ segment }: SnapshotJoint): number {
  const sectors = numberField(segment, "chunk_size");
  return sectors === null ? DEFAULT_CHUNK : sectors * SECTOR;
}

/** What stands for an origin with all of its snapshots, where users of any of them meet: a name for locks, not a volume. */
export function clusterOf(origin: LogicalVolume): LogicalVolume {
  return { ...origin, id: `${origin.id}-snapshots` };
}
