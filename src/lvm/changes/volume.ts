/** Volumes renamed, removed, and their properties changed. Pure. */
import { DiskError } from "../../errors.js";
import type { ConfigValue, Entry } from "../config/tree.js";
import {
  type AllocationPolicy,
  type Area,
  findVolume,
  isVisible,
  type LogicalVolume,
  type Segment,
  type VolumeGroup,
} from "../metadata.js";
import { checkVolumeName } from "../names.js";
import { type SnapshotJoint, snapshotOf, snapshotsOn } from "../segments/snapshot/roles.js";
import { VOLUME_KEYS } from "../segments/types.js";
import { refuseTaken } from "./create-volume.js";
import { volumesAbove, volumeTree } from "./dependents.js";
import { changedTags, type GroupPlan, setFlag, usage } from "./plan.js";
import { planRemovePool, planRemoveThin, type RemovePlan } from "./thin-remove.js";

/** The parts of a volume keep its name before theirs: `root_rimage_0`. */
export function planRenameVolume(group: VolumeGroup, from: string, to: string): GroupPlan {
  const volume = findVolume(group, from);
  checkVolumeName(group.name, to);
  if (from === to) throw usage("Old and new logical volume names must differ");
  refuseTaken(group, to);
  refuseHidden(group, volume, "rename");
  const names = new Map([[from, to]]);
  for (const { name } of group.logicalVolumes)
    if (name.startsWith(`${from}_`) && !isVisibleName(group, name)) names.set(name, `${to}${name.slice(from.length)}`);
  for (const name of names.values())
    if (group.logicalVolumes.some((other) => other.name === name)) refuseTaken(group, name);
  return {
    group: renameVolumes(group, names),
    steps: [`Renamed "${from}" to "${to}" in volume group "${group.name}"`],
  };
}

/** Old names to new ones, wherever they stand. */
export function renameVolumes(group: VolumeGroup, names: ReadonlyMap<string, string>): VolumeGroup {
  const logicalVolumes = group.logicalVolumes.map((other) => ({
    ...other,
    name: names.get(other.name) ?? other.name,
    segments: other.segments.map((segment) => renameIn(segment, names)),
  }));
  return { ...group, logicalVolumes };
}

function isVisibleName(group: VolumeGroup, name: string): boolean {
  return isVisible(findVolume(group, name));
}

function renameIn(segment: Segment, names: ReadonlyMap<string, string>): Segment {
  const area = (old: Area): Area => (old.kind === "lv" ? { ...old, lv: names.get(old.lv) ?? old.lv } : old);
  const value = (key: string, old: ConfigValue) =>
    typeof old === "string" && VOLUME_KEYS.has(key) ? (names.get(old) ?? old) : old;
  const field = (entry: Entry): Entry =>
    entry.kind === "assign"
      ? { ...entry, value: value(entry.key, entry.value) }
      : { ...entry, entries: entry.entries.map(field) };
  return {
    ...segment,
    areas: segment.areas.map(area),
    metadataAreas: segment.metadataAreas.map(area),
    fields: segment.fields.map(field),
  };
}

/** Types that stand by themselves: the pools and origins of others are not among them. */
const REMOVABLE = /^(striped|error|zero|mirror|raid\w*)$/;

/** Removes a volume with its parts, an origin with its snapshots. Throws `DENIED` for one that others need. */
export function planRemoveVolume(group: VolumeGroup, name: string): RemovePlan {
  const volume = findVolume(group, name);
  if (snapshotsOn(group, name).length > 0) return planRemoveOrigin(group, name);
  const joint = snapshotOf(group, name);
  if (joint) return planRemoveSnapshot(group, joint);
  refuseHidden(group, volume, "remove");
  if (volume.segments[0]?.type === "thin") return planRemoveThin(group, volume);
  if (volume.segments[0]?.type === "thin-pool") return planRemovePool(group, volume);
  const type = volume.segments.find((segment) => !REMOVABLE.test(segment.type))?.type;
  if (type !== undefined)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot remove logical volume ${group.name}/${name}: it is of type ${type}, which this version only shows`,
      {
        details: { segmentType: type },
      },
    );
  const users = volumesAbove(group, name);
  if (users.length > 0)
    throw new DiskError(
      "DENIED",
      `Cannot remove logical volume ${group.name}/${name}: ${users.map((user) => user.name).join(" ")} need it`,
    );
  const removed = volumeTree(group, name);
  const logicalVolumes = group.logicalVolumes.filter((other) => !removed.includes(other.name));
  return {
    removed,
    dependents: [],
    group: { ...group, logicalVolumes },
    steps: [`Logical volume "${name}" successfully removed.`],
  };
}

/** An origin takes its snapshots with it. */
function planRemoveOrigin(group: VolumeGroup, name: string): RemovePlan {
  const removed: string[] = [];
  const steps: string[] = [];
  let left = group;
  for (const { cow } of snapshotsOn(group, name)) {
    const plan = planRemoveSnapshot(left, snapshotOf(left, cow)!, true);
    left = plan.group;
    removed.push(...plan.removed);
    steps.push(...plan.steps);
  }
  const plan = planRemoveVolume(left, name);
  return { ...plan, removed: [...removed, ...plan.removed], steps: [...steps, ...plan.steps] };
}

function planRemoveSnapshot(
  group: VolumeGroup,
  { cow, merging, volume }: SnapshotJoint,
  withOrigin = false,
): RemovePlan {
  if (merging && !withOrigin)
    throw new DiskError("DENIED", `Can't remove merging snapshot logical volume ${group.name}/${cow}.`);
  const removed = [volume.name, ...volumeTree(group, cow)];
  const logicalVolumes = group.logicalVolumes.filter((other) => !removed.includes(other.name));
  return {
    removed,
    dependents: [],
    group: { ...group, logicalVolumes },
    steps: [`Logical volume "${cow}" successfully removed.`],
  };
}

export interface ChangeVolumeRequest {
  readonly permission?: "r" | "rw";
  readonly addTags?: readonly string[];
  readonly deleteTags?: readonly string[];
  readonly allocation?: AllocationPolicy;
  readonly autoactivation?: boolean;
  readonly skipActivation?: boolean;
}

export function planChangeVolume(group: VolumeGroup, name: string, request: ChangeVolumeRequest): GroupPlan {
  const volume = findVolume(group, name);
  const { permission, addTags = [], deleteTags = [], allocation, autoactivation, skipActivation } = request;
  const writable = volume.status.includes("WRITE");
  if (allocation !== undefined && allocation === volume.allocation)
    throw new DiskError(
      "DENIED",
      `Allocation policy of logical volume ${group.name}/${name} is already ${allocation}.`,
    );
  if (permission !== undefined && writable === (permission === "rw"))
    throw new DiskError(
      "DENIED",
      `Logical volume ${group.name}/${name} is already ${writable ? "writable" : "read-only"}.`,
    );
  if (permission !== undefined) refuseHidden(group, volume, "change permission of");
  const changed: LogicalVolume = {
    ...volume,
    tags: changedTags(volume.tags, addTags, deleteTags),
    allocation: allocation ?? volume.allocation,
    status: permission === undefined ? volume.status : withName(volume.status, "WRITE", permission === "rw", "READ"),
    flags: setFlag(
      setFlag(volume.flags, "ACTIVATION_SKIP", skipActivation),
      "NOAUTOACTIVATE",
      autoactivation === undefined ? undefined : !autoactivation,
    ),
  };
  const logicalVolumes = group.logicalVolumes.map((other) => (other === volume ? changed : other));
  return { group: { ...group, logicalVolumes }, steps: [`Logical volume ${group.name}/${name} changed.`] };
}

/** The list with or without a name, which is put behind another one. */
function withName(names: readonly string[], name: string, present: boolean, behind: string): readonly string[] {
  const others = names.filter((other) => other !== name);
  return present ? others.toSpliced(others.indexOf(behind) + 1, 0, name) : others;
}

function refuseHidden(group: VolumeGroup, volume: LogicalVolume, verb: string): void {
  const snapshot = snapshotOf(group, volume.name);
  if (snapshot && !snapshot.merging) return; // hidden in the text only
  const users = volumesAbove(group, volume.name);
  if (isVisible(volume) || users.length === 0) return;
  throw new DiskError(
    "DENIED",
    `Cannot ${verb} internal logical volume ${group.name}/${volume.name}: it is a part of ${users.map(({ name }) => name).join(" ")}`,
  );
}
