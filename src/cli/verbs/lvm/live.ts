/** Changes of volumes that guests use: what their locks refuse here, the daemon does while they wait. */
import { findVolume, type VolumeGroup } from "../../../lvm/metadata.js";
import { snapshotsOn } from "../../../lvm/segments/snapshot/roles.js";
import type { ChangeResult, LvmContext } from "../../../stack/lvm/change.js";
import type { LiveChange } from "../../../stack/lvm/live-change.js";
import { isLocked } from "../../../stack/lvm/locks.js";
import { type CommonFlags, changeOptions } from "./options.js";

/** Ids of an origin and its snapshots. */
export function clusterIds(group: VolumeGroup, origin: string): string[] {
  const names = [origin, ...snapshotsOn(group, origin).map(({ cow }) => cow)];
  return names.map((name) => findVolume(group, name).id);
}

export interface LiveRequest {
  readonly change: LiveChange["change"];
  /** Ids; a guest may use one of them. */
  readonly volumes: readonly string[];
}

/** `live` is asked for when `directly` was refused; null: that is final. */
export async function changeBesideGuests(
  context: LvmContext,
  flags: CommonFlags,
  group: string,
  live: () => LiveRequest | null,
  directly: () => Promise<ChangeResult>,
): Promise<ChangeResult> {
  try {
    return await directly();
  } catch (error) {
    if (!isLocked(error)) throw error;
    const request = live();
    const result = request && (await askDaemon(context, flags, group, request));
    if (!result) throw error; // somebody else has it
    return result;
  }
}

/** Null when no guest has any of the volumes. */
export async function askDaemon(
  context: LvmContext,
  flags: CommonFlags,
  group: string,
  { change, volumes }: LiveRequest,
): Promise<ChangeResult | null> {
  const { Dom0Client } = await import("../../../dom0/client.js");
  const { devices, autobackup } = changeOptions(context, flags);
  const { now, host, command, paths } = context;
  return new Dom0Client({ paths }).changeVolumes({
    volumes,
    change: { group, devices, autobackup, now, host, command, change },
  });
}
