/** `lvconvert` for volumes of legs: what is asked for becomes a plan, from what the volume is and what its legs say of themselves. */
import { DiskError } from "../../errors.js";
import { openVolume } from "../../lvm/activate.js";
import type { PeRange } from "../../lvm/allocate.js";
import { planKeepMirrorLegs, planMirrorToRaid1, planToMirror } from "../../lvm/changes/convert-mirror.js";
import {
  type ConvertPlan,
  type ConvertRequest,
  planAddLegs,
  planRemoveLegs,
  planReplaceLegs,
  planSplitLegs,
  planToRaid1,
} from "../../lvm/changes/convert-raid.js";
import { usage } from "../../lvm/changes/plan.js";
import { volumesUsed } from "../../lvm/changes/raid-parts.js";
import { newId } from "../../lvm/id.js";
import { findVolume, isMarkedMissing, type VolumeGroup } from "../../lvm/metadata.js";
import { devicesOf, type FoundGroup } from "../../lvm/scan.js";
import type { GroupChange, LvmContext } from "./change.js";
import { blankLegs, writeNewLegs } from "./raid-legs.js";

export interface ConvertLegsRequest {
  readonly volume: string;
  /** `-m`: copies beside the first, or more or fewer of them. */
  readonly mirrors?: { readonly sign: "" | "+" | "-"; readonly count: number };
  readonly type?: string;
  readonly repair?: boolean;
  /** The name of the volume that a leg becomes. */
  readonly splitTo?: string;
  readonly mirrorLog?: "core" | "disk";
  /** Bytes. */
  readonly regionSize?: number;
  /** Disks that new legs may use; of legs that go, those on them go first. */
  readonly within?: readonly PeRange[];
}

/** Null: there is nothing to do. */
export async function planConvertLegs(
  context: LvmContext,
  found: FoundGroup,
  request: ConvertLegsRequest,
): Promise<GroupChange> {
  const plan = await planOf(context, found, request);
  const { group, volume, newLegs } = plan;
  const type = volume.segments[0]?.type ?? "";
  return {
    ...plan,
    inUse: [findVolume(found.group, request.volume)],
    async prepare(members) {
      const writable = { ...group, logicalVolumes: group.logicalVolumes.map(withWrite) };
      if (type === "mirror") await blankLegs(writable, volume, devicesOf(members));
      else await writeNewLegs(writable, volume, newLegs, devicesOf(members));
    },
  };
}

async function planOf(context: LvmContext, found: FoundGroup, request: ConvertLegsRequest): Promise<ConvertPlan> {
  const { group } = found;
  const name = request.volume;
  const volume = findVolume(group, name);
  const type = volume.segments[0]?.type ?? "";
  const parts: ConvertRequest = {
    ...{ name, newId: () => newId(context.random), time: context.now, host: context.host },
    ...(request.within ? { within: request.within } : {}),
    ...(request.regionSize === undefined ? {} : { regionSize: request.regionSize }),
  };
  if (request.repair) return planRepair(found, parts, type);
  if (request.splitTo !== undefined) {
    await requireAlike(found, name);
    return planSplitLegs(group, name, { ...parts, name: request.splitTo, id: newId(context.random) });
  }
  const before = volume.segments[0]?.areas.length ?? 1;
  const linear = type === "striped" && before === 1;
  const legs = request.type === "linear" ? 1 : legsAfter(request, linear ? 1 : before);
  const wanted = request.type ?? (linear ? "raid1" : type);
  if (linear && legs > 1 && wanted === "raid1") return planToRaid1(group, { ...parts, legs });
  if (linear && legs > 1 && wanted === "mirror")
    return planToMirror(group, {
      ...parts,
      legs,
      ...(request.mirrorLog === undefined ? {} : { mirrorLog: request.mirrorLog }),
    });
  if (type === "mirror" && wanted === "raid1" && legs === before) return planMirrorToRaid1(group, parts);
  if (legs === before)
    throw new DiskError("DENIED", `Logical volume ${group.name}/${name} already has ${legs - 1} mirrors`);
  if (legs > before) return planAddLegs(group, { ...parts, legs });
  const going = await goingLegs(found, name, before - legs, request.within);
  if (type === "mirror") return planKeepMirrorLegs(group, name, others(before, going));
  return planRemoveLegs(group, name, going);
}

function legsAfter({ mirrors, type }: ConvertLegsRequest, before: number): number {
  if (!mirrors) return type !== undefined && before === 1 ? 2 : before;
  const { sign, count } = mirrors;
  const legs = sign === "+" ? before + count : sign === "-" ? before - count : count + 1;
  if (legs < 1) throw usage(`Cannot remove ${count} mirrors: there are ${before - 1}`);
  return legs;
}

function others(legs: number, without: readonly number[]): number[] {
  return Array.from({ length: legs }, (_, leg) => leg).filter((leg) => !without.includes(leg));
}

/** Legs that failed, then those on `within`, then the last ones. Those that stay are whole. */
async function goingLegs(
  found: FoundGroup,
  name: string,
  count: number,
  within: readonly PeRange[] | undefined,
): Promise<number[]> {
  const { states, unequal } = await inspectLegs(found, name);
  const named = (leg: number) => {
    const area = findVolume(found.group, name).segments[0]!.areas[leg];
    const used = area?.kind === "lv" ? volumesUsed(found.group, findVolume(found.group, area.lv)) : new Set<string>();
    return within?.some(({ pv }) => used.has(pv)) ?? false;
  };
  const rank = (leg: number) => (states[leg] === "in sync" ? 0 : 2) + (named(leg) ? 1 : 0);
  const order = states.map((_, leg) => leg).sort((a, b) => rank(b) - rank(a) || b - a);
  const going = order.slice(0, count);
  // While legs differ only the first one is right.
  const first = states.indexOf("in sync");
  if (others(states.length, going).some((leg) => states[leg] !== "in sync") || (unequal > 0 && going.includes(first)))
    throw notAlike(found.group, name);
  return going;
}

async function requireAlike(found: FoundGroup, name: string): Promise<void> {
  const { states, unequal } = await inspectLegs(found, name);
  if (unequal > 0 || states.some((state) => state !== "in sync")) throw notAlike(found.group, name);
}

function notAlike(group: VolumeGroup, name: string): DiskError {
  return new DiskError(
    "DENIED",
    `Unable to remove images of ${group.name}/${name} while the array is not in-sync: 'xvd lvchange --syncaction repair' makes it so`,
  );
}

async function planRepair(found: FoundGroup, parts: ConvertRequest, type: string): Promise<ConvertPlan> {
  const { group } = found;
  const { name } = parts;
  const { states } = await inspectLegs(found, name);
  const lost = states.flatMap((state, leg) => (state === "failed" ? [leg] : []));
  if (type === "mirror") {
    if (lost.length === 0 && !lacksLog(found, name)) throw nothingToRepair(group, name);
    return planKeepMirrorLegs(marked(found), name, others(states.length, lost));
  }
  if (lost.length === 0) throw nothingToRepair(group, name);
  return planReplaceLegs(marked(found), { ...parts, replace: lost });
}

function nothingToRepair(group: VolumeGroup, name: string): DiskError {
  return new DiskError("DENIED", `${group.name}/${name} does not contain devices specified: no image has failed`, {
    details: { nothing: true },
  });
}

/** Devices that are away are not allocated from. */
function marked({ group, members }: FoundGroup): VolumeGroup {
  const physicalVolumes = group.physicalVolumes.map((pv) =>
    members.get(pv.name) || isMarkedMissing(pv) ? pv : { ...pv, flags: [...pv.flags, "MISSING"] },
  );
  return { ...group, physicalVolumes };
}

function lacksLog(found: FoundGroup, name: string): boolean {
  const log = found.group.logicalVolumes.find((volume) => volume.name === `${name}_mlog`);
  if (!log) return false;
  const used = volumesUsed(found.group, log);
  return found.group.physicalVolumes.some((pv) => used.has(pv.name) && !found.members.get(pv.name));
}

async function inspectLegs({ group, members }: FoundGroup, name: string) {
  let result: { states: readonly string[]; unequal: number } | null = null;
  const device = await openVolume(group, name, devicesOf(members), {
    maintain: async ({ legStates, unequal }) => {
      result ??= { states: [...legStates], unequal };
    },
  });
  await device.close();
  if (!result) throw usage(`Cannot convert ${group.name}/${name}: it has no legs`);
  return result as { states: readonly string[]; unequal: number };
}

/** Parts of a read-only volume are written too. */
function withWrite<V extends VolumeGroup["logicalVolumes"][number]>(volume: V): V {
  return volume.status.includes("WRITE") ? volume : { ...volume, status: [...volume.status, "WRITE"] };
}
