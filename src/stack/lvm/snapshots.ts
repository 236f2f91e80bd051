/** Old-style snapshots beyond the text of their group: a new one's store, and the way of an old one back into its origin. */
import { DiskError } from "../../errors.js";
import { openContext, openVolume } from "../../lvm/activate.js";
import type { CreateSnapshotPlan } from "../../lvm/changes/create-snapshot.js";
import { exclusive } from "../../lvm/changes/endangered.js";
import { planBeginMerge, planEndMerge } from "../../lvm/changes/merge-snapshot.js";
import { findVolume, type LogicalVolume, type VolumeGroup } from "../../lvm/metadata.js";
import { measureVolumes } from "../../lvm/report/measure.js";
import { devicesOf, type FoundGroup, findGroup } from "../../lvm/scan.js";
import { type MergeOptions, mergeSnapshot } from "../../lvm/segments/snapshot/merge.js";
import { membersOf } from "../../lvm/segments/snapshot/open.js";
import { clusterOf, type SnapshotJoint, snapshotOf } from "../../lvm/segments/snapshot/roles.js";
import { formatStore } from "../../lvm/segments/snapshot/store.js";
import { type ChangeOptions, type ChangeResult, changeGroup, type GroupChange, type LvmContext } from "./change.js";
import { type HeldLock, isLocked, lockNeeded } from "./locks.js";
import { openSession } from "./open-session.js";
import { withWrite } from "./volumes.js";

/** The store is empty before the group says that there is a snapshot: a cut between them leaves nothing of it. */
export function withStore(plan: CreateSnapshotPlan): GroupChange {
  const { volume, chunkSize } = plan;
  const alone = { ...plan.group, logicalVolumes: [withWrite(volume, volume.name)] };
  return {
    group: plan.group,
    steps: plan.steps,
    async prepare(members) {
      const cow = await openVolume(alone, volume.name, devicesOf(members), { writable: true });
      await formatStore(cow, chunkSize);
      await cow.close();
    },
  };
}

export interface MergeRequest extends MergeOptions {
  readonly group: string;
  readonly snapshot: string;
  /** Leave it to whoever comes next. */
  readonly later?: boolean;
}

/**
 * Merges a snapshot into its origin, or goes on with that. While somebody uses one of them the group only says that it is to be done:
 * their next users see the origin with the snapshot's contents, and the merge is done by whoever asks again.
 *
 *   the group says merging -> chunks go to the origin (segments/snapshot/merge.ts) -> the group is without the snapshot
 */
export async function mergeIntoOrigin(
  context: LvmContext,
  { group: name, snapshot, later = false, ...merge }: MergeRequest,
  options: ChangeOptions,
): Promise<ChangeResult> {
  const { group, joint } = await look(context, name, snapshot, options);
  const full = `${name}/${snapshot}`;
  const lock = later || options.dryRun ? null : await lockCluster(context, group, joint);
  const inTheWay = typeof lock === "string" ? lock : null;
  const safe = safeIds(group, joint);
  try {
    const begun = joint.merging
      ? { steps: [], diff: [] }
      : await changeGroup(context, name, { ...options, safe }, (found) => planBeginMerge(found.group, snapshot));
    if (options.dryRun) return begun;
    if (later || inTheWay)
      return {
        ...begun,
        steps: [
          ...(inTheWay ? [`Delaying merge since ${inTheWay} is open.`] : []),
          `Merging of snapshot ${full} will occur on next activation of ${name}/${joint.origin}: 'xvd lvconvert --merge ${full}' does it then.`,
        ],
      };
    await runMerge(context, name, joint.origin, merge, options);
    const ended = await changeGroup(context, name, { ...options, safe }, (found) =>
      planEndMerge(found.group, snapshot),
    );
    return { ...ended, steps: [`Merging of volume ${full} started.`, ...ended.steps] };
  } finally {
    if (lock && typeof lock !== "string") await lock.release();
  }
}

async function look(context: LvmContext, name: string, snapshot: string, { devices }: ChangeOptions) {
  const session = await openSession(devices, { paths: context.paths });
  try {
    const { group } = findGroup(session.scan, name);
    const joint = snapshotOf(group, snapshot);
    if (!joint?.merging) planBeginMerge(group, snapshot); // says why it cannot be
    return { group, joint: joint! };
  } finally {
    await session.close();
  }
}

function safeIds(group: VolumeGroup, joint: SnapshotJoint): Set<string> {
  const origin = findVolume(group, joint.origin);
  return new Set([origin.id, clusterOf(origin).id, joint.volume.id, findVolume(group, joint.cow).id]);
}

/** Everything that belongs to the merge, or who is in the way: writers of the origin's other snapshots use the origin too. */
async function lockCluster(
  context: LvmContext,
  group: VolumeGroup,
  joint: SnapshotJoint,
): Promise<HeldLock | "origin" | "snapshot"> {
  const { home } = context.paths;
  const origin = findVolume(group, joint.origin);
  const take = (volumes: readonly LogicalVolume[]) =>
    lockNeeded(home, group, exclusive(volumes)).catch((error: unknown) => {
      if (isLocked(error)) return null;
      throw error;
    });
  const outer = await take([origin, clusterOf(origin)]);
  if (!outer) return "origin";
  const inner = await take([findVolume(group, joint.cow)]);
  if (!inner) {
    await outer.release();
    return "snapshot";
  }
  return {
    async release() {
      await inner.release();
      await outer.release();
    },
  };
}

async function runMerge(
  context: LvmContext,
  name: string,
  origin: string,
  merge: MergeOptions,
  { devices }: ChangeOptions,
): Promise<void> {
  const session = await openSession(devices, { paths: context.paths, writable: true });
  try {
    const { group, members } = findGroup(session.scan, name);
    const { context: opened, close } = openContext(group, origin, devicesOf(members), {
      writable: true,
      warn: (text) => context.warn(text),
    });
    try {
      await mergeSnapshot(await membersOf(opened, origin), merge);
    } finally {
      await close();
    }
  } finally {
    await session.close();
  }
}

/** Throws `DENIED` when a snapshot's store would lose chunks that are in use. `extents`: of the store from then on. */
export async function refuseCutStore(found: FoundGroup, name: string, extents: number): Promise<void> {
  const usage = (await measureVolumes(found)).get(name)?.store;
  const size = extents * found.group.extentSize;
  if (!usage || usage.used <= size) return;
  throw new DiskError(
    "DENIED",
    `Cannot reduce snapshot ${found.group.name}/${name} to ${size} bytes: its store has ${usage.used} bytes in use`,
  );
}
