/**
 * Volumes that are more than their segments: an origin whose snapshots have to be kept when it is written, and a snapshot, whose own
 * volume is only its store. Who writes any of them opens all of them, once (shared-states.ts); readers of snapshots follow.
 */
import type { BlockDevice } from "../../../block/device.js";
import { RangeLock } from "../../../block/range-lock.js";
import { DiskError } from "../../../errors.js";
import { findVolume } from "../../metadata.js";
import { failing, type OpenContext, segmentSize } from "../target.js";
import { type Member, SnapshotMembers } from "./members.js";
import { originView } from "./origin-view.js";
import { chunkSizeOf, clusterOf, type SnapshotJoint, snapshotOf, snapshotsOn } from "./roles.js";
import { snapshotView } from "./snapshot-view.js";
import { ExceptionStore } from "./store.js";

/** Null for a volume that is neither, or an origin that is only read: its segments are all there is to it. */
export async function openSnapshotRole(context: OpenContext, close: () => Promise<void>): Promise<BlockDevice | null> {
  const { group, volume, writable, label } = context;
  const joint = snapshotOf(group, volume.name);
  if (joint) return openSnapshot(context, joint, close);
  const joints = snapshotsOn(group, volume.name);
  if (writable && joints.length > 0) return originView(await membersOf(context, volume.name), label, close);
  const merging = joints.find((other) => other.merging);
  if (!merging) return null;
  const member = await openMember(context, merging, false);
  return originView(new SnapshotMembers(await context.open(volume.name), [], member), label, close);
}

async function openSnapshot(
  context: OpenContext,
  joint: SnapshotJoint,
  close: () => Promise<void>,
): Promise<BlockDevice> {
  const { label, writable, group } = context;
  if (joint.merging)
    throw new DiskError(
      "DENIED",
      `Cannot open ${label}: it is being merged into its origin ${group.name}/${joint.origin}, which has its contents`,
    );
  if (writable) {
    const shared = await membersOf(context, joint.origin);
    const member = shared.members.find(({ name }) => name === joint.cow) ?? failing(label, "it is no snapshot");
    return snapshotView({ label, origin: shared.origin, member, shared, close });
  }
  const origin = await context.open(joint.origin);
  const member = await openMember(context, joint, false);
  return snapshotView({ label, origin, member, shared: null, close });
}

/** An origin with its snapshots, for writing; shared with whoever writes any of them in this process. */
export function membersOf(context: OpenContext, originName: string): Promise<SnapshotMembers> {
  const origin = findVolume(context.group, originName);
  return context.share(clusterOf(origin), true, (inner) => openMembers(inner, originName));
}

async function openMembers(context: OpenContext, originName: string): Promise<SnapshotMembers> {
  const members: Member[] = [];
  let merging: Member | null = null;
  for (const joint of snapshotsOn(context.group, originName)) {
    const member = await openMember(context, joint, true);
    if (joint.merging) merging = member;
    else members.push(member);
  }
  return new SnapshotMembers(await context.open(originName), members, merging, context.warn);
}

async function openMember(context: OpenContext, joint: SnapshotJoint, writable: boolean): Promise<Member> {
  const { group } = context;
  const cow = await context.open(joint.cow, { own: true });
  const store = await ExceptionStore.open(cow, chunkSizeOf(joint), writable);
  return { name: joint.cow, store, size: segmentSize(group, joint.segment), lock: new RangeLock() };
}
