/** Mirrors (dm-mirror) made of linear volumes, cut down to some of their legs, and made RAID 1. Pure. */
import { assign } from "../config/tree.js";
import { extentCount, findVolume, type LogicalVolume, textField, type VolumeGroup } from "../metadata.js";
import {
  type ConvertPlan,
  type ConvertRequest,
  converted,
  newMetadata,
  replaceVolume,
  requireLinear,
  requireSegment,
} from "./convert-raid.js";
import { mirrorParts } from "./create-raid.js";
import { fitRegionSize, metadataExtents, partVolume, raidSegment, volumesUsed } from "./raid-parts.js";

/** A linear volume becomes the first leg. */
export function planToMirror(
  group: VolumeGroup,
  request: ConvertRequest & { readonly legs: number; readonly mirrorLog?: "core" | "disk" },
): ConvertPlan {
  const { name } = request;
  const volume = findVolume(group, name);
  requireLinear(group, volume);
  const steps: string[] = [];
  const extents = extentCount(volume);
  const regionSize = fitRegionSize(extents * group.extentSize, request.regionSize, steps);
  const first = partVolume(`${name}_mimage_0`, request, volume.segments);
  const made = mirrorParts(group, name, request, {
    ...{ extents, regionSize, first, legs: request.legs, avoid: volumesUsed(group, volume) },
  });
  const top = { ...volume, segments: [made.segment] };
  return { ...converted(replaceVolume(group, volume, [top, ...made.parts]), top, steps), newLegs: [] };
}

/** Only the legs `keep` stay; one of them is a linear volume. With more, the log is made anew: all is copied from the first. */
export function planKeepMirrorLegs(group: VolumeGroup, name: string, keep: readonly number[]): ConvertPlan {
  const { volume, segment } = requireSegment(group, name, /^mirror$/, "remove images from");
  const images = segment.areas.map((area) => (area.kind === "lv" ? findVolume(group, area.lv) : null));
  const log = textField(segment, "mirror_log");
  const parts = new Set([...images.map((image) => image?.name), ...(log !== null ? [log] : [])]);
  const kept = keep.map((leg) => images[leg]!);
  const without = { ...group, logicalVolumes: group.logicalVolumes.filter((other) => !parts.has(other.name)) };
  const status = volume.status.filter((flag) => flag !== "NOTSYNCED");
  if (kept.length === 1) {
    const top = { ...volume, status, segments: kept[0]!.segments };
    return { ...converted(replaceVolume(without, volume, [top]), top, []), newLegs: [] };
  }
  const renamed = kept.map((image, leg) => ({ ...image, name: `${name}_mimage_${leg}` }));
  const areas = renamed.map((image) => ({ kind: "lv" as const, lv: image.name, le: 0 }));
  const fields = segment.fields.filter((field) => field.key !== "mirror_log");
  const logs: LogicalVolume[] = log === null || !isWhole(group, log) ? [] : [findVolume(group, log)];
  const top = {
    ...volume,
    segments: [{ ...segment, areas, fields: [...logs.map(() => assign("mirror_log", log!)), ...fields] }],
  };
  return { ...converted(replaceVolume(without, volume, [top, ...logs, ...renamed]), top, []), newLegs: [] };
}

/** Whether a volume lies on disks that are there. */
function isWhole(group: VolumeGroup, name: string): boolean {
  const used = volumesUsed(group, findVolume(group, name));
  return !group.physicalVolumes.some((pv) => used.has(pv.name) && pv.flags.includes("MISSING"));
}

/** Legs get metadata volumes and RAID's names. */
export function planMirrorToRaid1(group: VolumeGroup, request: ConvertRequest): ConvertPlan {
  const { name } = request;
  const { volume, segment } = requireSegment(group, name, /^mirror$/, "convert");
  const legs = segment.areas.length;
  const images = segment.areas.map((area) => findVolume(group, area.kind === "lv" ? area.lv : ""));
  const log = textField(segment, "mirror_log");
  const steps: string[] = [];
  const size = extentCount(volume) * group.extentSize;
  const regionSize = fitRegionSize(size, request.regionSize, steps);
  let left: VolumeGroup = { ...group, logicalVolumes: group.logicalVolumes.filter((other) => other.name !== log) };
  const parts: LogicalVolume[] = [];
  for (const [leg, image] of images.entries()) {
    const segments = newMetadata(left, request, metadataExtents(group, size, regionSize), volumesUsed(group, image));
    const meta = partVolume(`${name}_rmeta_${leg}`, request, segments);
    parts.push(meta, { ...image, name: `${name}_rimage_${leg}` });
    left = { ...left, logicalVolumes: [...left.logicalVolumes, meta] };
  }
  const without = group.logicalVolumes.filter((other) => other.name !== log && !images.includes(other));
  const top = { ...volume, segments: [raidSegment(name, "raid1", { extents: extentCount(volume), legs, regionSize })] };
  return {
    ...converted(replaceVolume({ ...group, logicalVolumes: without }, volume, [top, ...parts]), top, steps),
    newLegs: images.map((_, leg) => leg),
  };
}
