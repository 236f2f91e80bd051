/**
 * Legs of RAID 1 and mirrors added, removed and replaced; linear volumes made volumes of legs, and back. Pure. What new legs need on
 * disk before the group is written is done by stack/lvm/raid-legs.ts; their bytes are copied after it, by whoever opens the volume.
 */
import { DiskError } from "../../errors.js";
import type { PeRange } from "../allocate.js";
import {
  type AllocationPolicy,
  type Area,
  extentCount,
  findVolume,
  isVisible,
  type LogicalVolume,
  numberField,
  type Segment,
  type VolumeGroup,
} from "../metadata.js";
import { checkVolumeName } from "../names.js";
import { policyOf } from "./create-raid.js";
import { refuseTaken } from "./create-volume.js";
import { type GroupPlan, usage } from "./plan.js";
import {
  allocateLegs,
  fitRegionSize,
  metadataExtents,
  type PartOrigin,
  partVolume,
  raidSegment,
  volumesUsed,
} from "./raid-parts.js";

export interface ConvertRequest extends PartOrigin {
  readonly name: string;
  readonly within?: readonly PeRange[];
  readonly allocation?: AllocationPolicy;
  /** Bytes; for a linear volume that becomes one of legs. */
  readonly regionSize?: number;
}

export interface ConvertPlan extends GroupPlan {
  readonly volume: LogicalVolume;
  /** Legs whose metadata volume is new. */
  readonly newLegs: readonly number[];
}

/** A linear volume becomes leg 0 of `legs`. It keeps its extents. */
export function planToRaid1(group: VolumeGroup, request: ConvertRequest & { readonly legs: number }): ConvertPlan {
  const { name, legs, regionSize } = request;
  const volume = findVolume(group, name);
  requireLinear(group, volume);
  checkLegs(legs);
  const steps: string[] = [];
  const region = fitRegionSize(extentCount(volume) * group.extentSize, regionSize, steps);
  const extents = metadataExtents(group, extentCount(volume) * group.extentSize, region);
  const image = { ...partVolume(`${name}_rimage_0`, request, volume.segments), allocation: volume.allocation };
  const top: LogicalVolume = {
    ...volume,
    segments: [raidSegment(name, "raid1", { extents: extentCount(volume), legs, regionSize: region })],
  };
  const own = volumesUsed(group, volume);
  const meta = newMetadata(group, request, extents, own);
  const first = [partVolume(`${name}_rmeta_0`, request, meta), image];
  const withFirst = replaceVolume(group, volume, [top, ...first]);
  const added = newLegParts(withFirst, request, { from: 1, to: legs, metadataExtents: extents, avoid: own });
  return {
    ...converted({ ...withFirst, logicalVolumes: [...withFirst.logicalVolumes, ...added] }, top, steps),
    newLegs: Array.from({ length: legs }, (_, leg) => leg),
  };
}

/** More legs for a RAID 1. */
export function planAddLegs(group: VolumeGroup, request: ConvertRequest & { readonly legs: number }): ConvertPlan {
  const { name, legs } = request;
  const { volume, segment } = requireSegment(group, name, /^raid1$/, "add images to");
  checkLegs(legs);
  const before = segment.areas.length;
  const metadata = metadataSizeOf(group, segment);
  const added = newLegParts(group, request, {
    from: before,
    to: legs,
    metadataExtents: metadata,
    avoid: volumesUsed(group, volume),
  });
  const top = withLegs(volume, segment, legs);
  const replaced = replaceVolume(group, volume, [top]);
  return {
    ...converted({ ...replaced, logicalVolumes: [...replaced.logicalVolumes, ...added] }, top, []),
    newLegs: Array.from({ length: legs - before }, (_, i) => before + i),
  };
}

/** Fewer legs for a RAID 1: one is a linear volume. `remove`: which; the others move up. */
export function planRemoveLegs(group: VolumeGroup, name: string, remove: readonly number[]): ConvertPlan {
  const { volume, segment } = requireSegment(group, name, /^raid1$/, "remove images from");
  const kept = segment.areas.flatMap((_, leg) => (remove.includes(leg) ? [] : [leg]));
  if (kept.length === 0) throw usage(`Cannot remove all images of ${group.name}/${name}`);
  const partOf = (area: Area | undefined) => (area?.kind === "lv" ? findVolume(group, area.lv) : undefined);
  const parts = [...segment.areas, ...segment.metadataAreas].flatMap((area) => partOf(area) ?? []);
  const without = { ...group, logicalVolumes: group.logicalVolumes.filter((other) => !parts.includes(other)) };
  if (kept.length === 1) {
    const top = { ...withoutStatus(volume, "NOTSYNCED"), segments: partOf(segment.areas[kept[0]!])!.segments };
    return { ...converted(replaceVolume(without, volume, [top]), top, []), newLegs: [] };
  }
  const moved = kept.flatMap((old, leg) => [
    { ...partOf(segment.metadataAreas[old])!, name: `${name}_rmeta_${leg}` },
    { ...partOf(segment.areas[old])!, name: `${name}_rimage_${leg}` },
  ]);
  const top = withLegs(volume, segment, kept.length);
  const replaced = replaceVolume(without, volume, [top]);
  return {
    ...converted({ ...replaced, logicalVolumes: [...replaced.logicalVolumes, ...moved] }, top, []),
    newLegs: [],
  };
}

/** Legs get new volumes, empty, on disks that the others do not use. */
export function planReplaceLegs(
  group: VolumeGroup,
  request: ConvertRequest & { readonly replace: readonly number[] },
): ConvertPlan {
  const { name } = request;
  const { volume, segment } = requireSegment(group, name, /^raid(1|10|4|5|6)/, "repair");
  const dropped = request.replace.flatMap((leg) =>
    [segment.areas[leg], segment.metadataAreas[leg]].flatMap((area) =>
      area?.kind === "lv" ? [findVolume(group, area.lv)] : [],
    ),
  );
  const without = { ...group, logicalVolumes: group.logicalVolumes.filter((other) => !dropped.includes(other)) };
  const kept = segment.areas.filter((area, leg) => area.kind === "lv" && !request.replace.includes(leg));
  const avoid = new Set(
    kept.flatMap((area) => [...(area.kind === "lv" ? volumesUsed(group, findVolume(group, area.lv)) : [])]),
  );
  const image = extentCount(dropped.find(({ name: part }) => part.includes("_rimage_"))!);
  const metadata = metadataSizeOf(group, segment);
  const made = allocateLegs(without, {
    legs: request.replace.length,
    metadataExtents: metadata,
    imageExtents: image,
    policy: policyOf(group, request.allocation ?? volume.allocation),
    avoid,
    ...(request.within ? { within: request.within } : {}),
  }).flatMap(({ metadata: meta, image: bytes }, i) => [
    partVolume(`${name}_rmeta_${request.replace[i]}`, request, meta),
    partVolume(`${name}_rimage_${request.replace[i]}`, request, bytes),
  ]);
  const steps = [`Faulty devices in ${group.name}/${name} successfully replaced.`];
  return {
    group: { ...without, logicalVolumes: [...without.logicalVolumes, ...made] },
    steps,
    volume,
    newLegs: request.replace,
  };
}

/** The last leg of a RAID 1 becomes a volume of its own. */
export function planSplitLegs(
  group: VolumeGroup,
  name: string,
  { name: newName, id, time, host }: { name: string; id: string; time: number; host: string },
): ConvertPlan {
  const { segment } = requireSegment(group, name, /^raid1$/, "split images from");
  checkVolumeName(group.name, newName);
  refuseTaken(group, newName);
  const last = segment.areas.at(-1)!;
  const image = findVolume(group, last.kind === "lv" ? last.lv : "");
  const plan = planRemoveLegs(group, name, [segment.areas.length - 1]);
  const split: LogicalVolume = {
    ...image,
    ...{ name: newName, id, creationTime: time, creationHost: host },
    status: ["READ", "WRITE", "VISIBLE"],
  };
  return {
    ...plan,
    group: { ...plan.group, logicalVolumes: [...plan.group.logicalVolumes, split] },
    steps: [...plan.steps, `Logical volume "${newName}" created.`],
  };
}

export function converted(
  group: VolumeGroup,
  volume: LogicalVolume,
  steps: readonly string[],
): Omit<ConvertPlan, "newLegs"> {
  return { group, volume, steps: [...steps, `Logical volume ${group.name}/${volume.name} successfully converted.`] };
}

export function requireLinear(group: VolumeGroup, volume: LogicalVolume): void {
  const linear = volume.segments.every(({ type, areas }) => type === "striped" && areas.length === 1);
  if (linear && isVisible(volume)) return;
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot convert ${group.name}/${volume.name} to raid1: it is of type ${volume.segments[0]?.type}, allowed are linear volumes`,
    { details: { segmentType: volume.segments[0]?.type } },
  );
}

export function requireSegment(
  group: VolumeGroup,
  name: string,
  types: RegExp,
  verb: string,
): { volume: LogicalVolume; segment: Segment } {
  const volume = findVolume(group, name);
  const [segment] = volume.segments;
  if (segment && volume.segments.length === 1 && types.test(segment.type)) return { volume, segment };
  throw new DiskError("UNSUPPORTED", `Cannot ${verb} ${group.name}/${name}: it is of type ${segment?.type}`, {
    details: { segmentType: segment?.type },
  });
}

function checkLegs(legs: number): void {
  if (!Number.isInteger(legs) || legs < 2 || legs > 10)
    throw usage(`Only up to 9 mirrors of raid1 supported currently`);
}

function metadataSizeOf(group: VolumeGroup, segment: Segment): number {
  const sizes = segment.metadataAreas.flatMap((area) =>
    area.kind === "lv" ? [extentCount(findVolume(group, area.lv))] : [],
  );
  const regionSize = (numberField(segment, "region_size") ?? 0) * 512;
  return Math.max(...sizes, metadataExtents(group, segment.count * group.extentSize, regionSize));
}

/** Beside the image that it belongs to; elsewhere when there is no room. */
export function newMetadata(
  group: VolumeGroup,
  request: ConvertRequest,
  extents: number,
  own: ReadonlySet<string>,
): readonly Segment[] {
  const beside = group.physicalVolumes
    .filter(({ name }) => own.has(name))
    .map(({ name, peCount }) => ({ pv: name, first: 0, count: peCount }));
  const one = { legs: 1, metadataExtents: extents, imageExtents: 0, policy: "normal" as const };
  try {
    return allocateLegs(group, { ...one, within: beside })[0]!.metadata;
  } catch {
    return allocateLegs(group, { ...one, ...(request.within ? { within: request.within } : {}) })[0]!.metadata;
  }
}

function newLegParts(
  group: VolumeGroup,
  request: ConvertRequest,
  { from, to, metadataExtents: metadata, avoid }: NewLegs,
): LogicalVolume[] {
  const { name, allocation, within } = request;
  const volume = findVolume(group, name);
  return allocateLegs(group, {
    legs: to - from,
    metadataExtents: metadata,
    imageExtents: extentCount(volume),
    policy: policyOf(group, allocation ?? volume.allocation),
    avoid,
    ...(within ? { within } : {}),
  }).flatMap(({ metadata: meta, image }, i) => [
    partVolume(`${name}_rmeta_${from + i}`, request, meta),
    partVolume(`${name}_rimage_${from + i}`, request, image),
  ]);
}

interface NewLegs {
  readonly from: number;
  readonly to: number;
  readonly metadataExtents: number;
  readonly avoid: ReadonlySet<string>;
}

function withLegs(volume: LogicalVolume, segment: Segment, legs: number): LogicalVolume {
  const areas = (part: string) =>
    Array.from({ length: legs }, (_, leg) => ({ kind: "lv" as const, lv: `${volume.name}_${part}_${leg}`, le: 0 }));
  return { ...volume, segments: [{ ...segment, areas: areas("rimage"), metadataAreas: areas("rmeta") }] };
}

function withoutStatus(volume: LogicalVolume, status: string): LogicalVolume {
  return { ...volume, status: volume.status.filter((name) => name !== status) };
}

/** New volumes in the place of an old one. */
export function replaceVolume(group: VolumeGroup, old: LogicalVolume, by: readonly LogicalVolume[]): VolumeGroup {
  return { ...group, logicalVolumes: group.logicalVolumes.flatMap((volume) => (volume === old ? [...by] : [volume])) };
}
