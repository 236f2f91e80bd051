/** Some physical volumes of a group, with the volumes on them, become another group or a part of one. Pure. */
import { DiskError } from "../../errors.js";
import { usedRuns, volumesBelow } from "../check-group.js";
import type { LogicalVolume, VolumeGroup } from "../metadata.js";
import { checkGroupName } from "../names.js";
import { joinGroups } from "./merge-group.js";
import { requireResizeable, usage } from "./plan.js";

export interface SplitGroupRequest {
  readonly name: string;
  /** Of the new group. */
  readonly id: string;
  /** The group that has this name already; null: a new one is made. */
  readonly into: VolumeGroup | null;
  /** Local names of physical volumes that go; or a volume, which takes with it those that it lies on. */
  readonly pvs?: readonly string[];
  readonly volume?: string;
}

export interface SplitGroupPlan {
  /** What is left. */
  readonly from: VolumeGroup;
  /** What goes, as a group of its own. */
  readonly part: VolumeGroup;
  /** The group of the name that was asked for. */
  readonly into: VolumeGroup;
  readonly steps: readonly string[];
}

export function planSplitGroup(group: VolumeGroup, request: SplitGroupRequest): SplitGroupPlan {
  const { name, id, into } = request;
  checkGroupName(name);
  if (name === group.name) throw usage("Duplicate volume group name: the group cannot be split into itself");
  for (const one of into ? [group, into] : [group]) requireResizeable(one);
  const going = new Set(request.pvs ?? pvsUnder(group, request.volume!));
  if (going.size === group.physicalVolumes.length)
    throw new DiskError(
      "DENIED",
      `Cannot split all of volume group ${group.name}: one physical volume has to stay, 'xvd vgrename' renames a group`,
    );
  const moved = movedVolumes(group, going);
  const part: VolumeGroup = {
    ...group,
    name: into ? `${name}.split` : name,
    id,
    seqno: 0,
    tags: [],
    physicalVolumes: group.physicalVolumes.filter((pv) => going.has(pv.name)),
    logicalVolumes: group.logicalVolumes.filter((volume) => moved.has(volume)),
  };
  return {
    from: {
      ...group,
      physicalVolumes: group.physicalVolumes.filter((pv) => !going.has(pv.name)),
      logicalVolumes: group.logicalVolumes.filter((volume) => !moved.has(volume)),
    },
    part,
    into: into ? joinGroups(into, part, () => null) : part,
    steps: [`${into ? "Existing" : "New"} volume group "${name}" successfully split from "${group.name}"`],
  };
}

/** The physical volumes that a volume with all its parts lies on. */
function pvsUnder(group: VolumeGroup, name: string): string[] {
  const parts = clusterOf(neighbours(group), name);
  const pvs = [...usedRuns(group)].filter(([, runs]) => runs.some(({ volume }) => parts.has(volume)));
  if (pvs.length === 0)
    throw new DiskError(
      "DENIED",
      `Cannot split by logical volume ${group.name}/${name}: it lies on no physical volume`,
    );
  return pvs.map(([pv]) => pv);
}

/** By each volume those that name it or that it names. */
function neighbours(group: VolumeGroup): ReadonlyMap<string, ReadonlySet<string>> {
  const near = new Map<string, Set<string>>(group.logicalVolumes.map((volume) => [volume.name, new Set()]));
  for (const volume of group.logicalVolumes)
    for (const below of volumesBelow(volume)) {
      if (near.has(below)) near.get(volume.name)!.add(below);
      near.get(below)?.add(volume.name);
    }
  return near;
}

/** Volumes that hang together (a pool with its volumes, an origin with its snapshots) and so have to be in one group. */
function clusterOf(near: ReturnType<typeof neighbours>, name: string): Set<string> {
  const found = new Set([name]);
  for (const next of found) for (const other of near.get(next) ?? []) found.add(other);
  return found;
}

function movedVolumes(group: VolumeGroup, going: ReadonlySet<string>): Set<LogicalVolume> {
  const sides = new Map<string, Set<boolean>>();
  for (const [pv, runs] of usedRuns(group))
    for (const { volume } of runs) sides.set(volume, (sides.get(volume) ?? new Set()).add(going.has(pv)));
  const near = neighbours(group);
  const moved = new Set<LogicalVolume>();
  for (const volume of group.logicalVolumes) {
    const all = new Set([...clusterOf(near, volume.name)].flatMap((name) => [...(sides.get(name) ?? [])]));
    if (all.size > 1)
      throw new DiskError("DENIED", `Can't split LV ${volume.name} between two Volume Groups`, {
        details: { volume: volume.name },
      });
    if (all.has(true)) moved.add(volume);
  }
  return moved;
}
