/**
 * Changes of a group that its users' own process makes while they wait: it holds the volumes' locks, lets nothing be in flight, changes
 * the group and opens the volumes anew (dom0/backend-thread.ts). A cut leaves the old group or the new one, as ever: what was answered
 * before is in both.
 */
import { DiskError } from "../../errors.js";
import { planCreateSnapshot } from "../../lvm/changes/create-snapshot.js";
import { planRemoveVolume } from "../../lvm/changes/volume.js";
import { findVolume, type VolumeGroup } from "../../lvm/metadata.js";
import { clusterOf, snapshotOf } from "../../lvm/segments/snapshot/roles.js";
import { type ChangeResult, changeGroup, type LvmContext } from "./change.js";
import { withStore } from "./snapshots.js";

/** Plain data: it goes from a command to the daemon and on to the thread. */
export interface LiveChange {
  readonly group: string;
  readonly devices: readonly string[];
  readonly autobackup: boolean;
  /** Seconds since 1970. */
  readonly now: number;
  readonly host: string;
  readonly command: string;
  readonly change:
    | { readonly kind: "create-snapshot"; readonly request: Parameters<typeof planCreateSnapshot>[1] }
    | { readonly kind: "remove-snapshot"; readonly name: string }
    /** The group was changed already; volumes are opened anew. */
    | { readonly kind: "reload" };
}

export type LiveChangeResult = ChangeResult;

/** `own`: ids of the volumes that wait. */
export async function runLiveChange(
  context: LvmContext,
  { group, devices, autobackup, change }: LiveChange,
  own: readonly string[],
): Promise<LiveChangeResult> {
  if (change.kind === "reload") return { steps: [], diff: [] };
  const safe = new Set(own);
  const result: ChangeResult = await changeGroup(context, group, { devices, autobackup, safe }, (found) => {
    for (const id of clustersOf(found.group, own)) safe.add(id);
    if (change.kind === "create-snapshot") return withStore(planCreateSnapshot(found.group, change.request));
    const { id } = findVolume(found.group, change.name);
    if (!snapshotOf(found.group, change.name) || safe.has(id))
      throw new DiskError("DENIED", `Logical volume ${group}/${change.name} in use.`);
    return planRemoveVolume(found.group, change.name);
  });
  return { steps: result.steps, diff: result.diff };
}

/** Origins that wait, or whose snapshots do, wait as a whole. */
function clustersOf(group: VolumeGroup, own: readonly string[]): string[] {
  return group.logicalVolumes
    .filter(({ id }) => own.includes(id))
    .map((volume) => clusterOf(findVolume(group, snapshotOf(group, volume.name)?.origin ?? volume.name)).id);
}
