/** RAID volumes and mirrors made larger or smaller: all legs together. Pure; new parts are made alike when the volume is next opened. */
import { DiskError } from "../../errors.js";
import { allocateExtents, type PeRange } from "../allocate.js";
import {
  extentCount,
  findVolume,
  type LogicalVolume,
  numberField,
  type Segment,
  textField,
  type VolumeGroup,
} from "../metadata.js";
import { MIRROR_LOG_BITS } from "../raid/layout.js";
import { raidLevel } from "../raid/levels.js";
import { requireSegment } from "./convert-raid.js";
import { largestFitting, policyOf } from "./create-raid.js";
import { appendAllocations, roundToStripes } from "./create-volume.js";
import { volumesAbove } from "./dependents.js";
import { metadataExtents, volumesUsed } from "./raid-parts.js";
import {
  cutSegments,
  type ResizeVolumePlan,
  type ResizeVolumeRequest,
  resizedPlan,
  segmentEnds,
  targetSize,
} from "./resize-volume.js";

/** Whether a volume is resized here. */
export function hasLegs({ segments }: LogicalVolume): boolean {
  return segments.length === 1 && (segments[0]!.type === "mirror" || raidLevel(segments[0]!.type) !== undefined);
}

export function planResizeRaid(group: VolumeGroup, request: ResizeVolumeRequest): ResizeVolumePlan {
  const { name } = request;
  const { volume, segment } = requireSegment(group, name, /^(mirror|raid)/, "resize");
  const [user] = volumesAbove(group, name);
  if (user)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot resize logical volume ${group.name}/${name}: ${user.name} (${user.segments[0]?.type}) is made with it`,
    );
  const from = extentCount(volume);
  const remarks: string[] = [];
  const { target, atMost } = targetSize(group, request, from, remarks);
  const width = widthOf(segment);
  const rounded = Math.max(width, roundToStripes(group, target, width, atMost, remarks));
  const to = rounded > from && atMost ? from + largestGrowth(group, request, segment, rounded - from) : rounded;
  const parts = to > from ? grownParts(group, request, segment, to) : cutParts(group, segment, to / width);
  const top = { ...volume, segments: [{ ...segment, count: to }] };
  const byName = new Map([top, ...parts].map((part) => [part.name, part]));
  const logicalVolumes = group.logicalVolumes.map((other) => byName.get(other.name) ?? other);
  return resizedPlan({ ...group, logicalVolumes }, top, from, to, remarks);
}

/** Legs whose extents add up to the volume's. */
function widthOf(segment: Segment): number {
  const level = raidLevel(segment.type);
  if (!level || level.level === 1) return 1;
  const copies = level.level === 10 ? (numberField(segment, "data_copies") ?? 2) : 1;
  return (segment.areas.length - level.parity) / copies;
}

function largestGrowth(group: VolumeGroup, request: ResizeVolumeRequest, segment: Segment, wanted: number): number {
  const width = widthOf(segment);
  const rows = largestFitting(wanted / width, (count) =>
    grownParts(group, request, segment, segment.count + count * width),
  );
  if (rows > 0) return rows * width;
  throw new DiskError("NO_SPACE", `Insufficient free space to extend ${group.name}/${request.name} on all of its legs`);
}

function grownParts(group: VolumeGroup, request: ResizeVolumeRequest, segment: Segment, to: number): LogicalVolume[] {
  const images = volumesOf(group, segment.areas);
  const metas = volumesOf(group, segment.metadataAreas);
  const apart = images.map((image, leg) => [
    ...volumesUsed(group, image),
    ...(metas[leg] ? volumesUsed(group, metas[leg]) : []),
  ]);
  const regionSize = (numberField(segment, "region_size") ?? 0) * 512;
  const bytes = to * group.extentSize;
  requireLogFor(group, segment, bytes / regionSize);
  const forMetadata = metas[0] ? Math.max(0, metadataExtents(group, bytes, regionSize) - extentCount(metas[0])) : 0;
  const grownMetas = grownBy(group, request, metas, forMetadata, apart);
  const byName = new Map(grownMetas.map((meta) => [meta.name, meta]));
  const left = { ...group, logicalVolumes: group.logicalVolumes.map((other) => byName.get(other.name) ?? other) };
  const more = (to - segment.count) / widthOf(segment);
  return [...grownMetas, ...grownBy(left, request, images, more, apart)];
}

/** Each of the volumes gets so many extents, none on a disk of another leg. */
function grownBy(
  group: VolumeGroup,
  request: ResizeVolumeRequest,
  volumes: readonly LogicalVolume[],
  extents: number,
  apart: readonly (readonly string[])[],
): LogicalVolume[] {
  if (extents === 0 || volumes.length === 0) return [...volumes];
  const ends = volumes.flatMap((volume) => segmentEnds(volume.segments.at(-1)!) ?? []);
  const allocations = allocateExtents(group, {
    extents,
    legs: volumes.length,
    policy: policyOf(group, request.allocation ?? findVolume(group, request.name).allocation),
    apart,
    ...(ends.length === volumes.length ? { ends: ends as PeRange[] } : {}),
    ...(request.within ? { within: request.within } : {}),
    ...(request.clingTags ? { clingTags: request.clingTags } : {}),
  });
  return volumes.map((volume, leg) => {
    const own = allocations.map(({ extents: count, runs }) => ({ extents: count, runs: [runs[leg]!] }));
    return { ...volume, segments: appendAllocations(volume.segments, own, []) };
  });
}

function cutParts(group: VolumeGroup, segment: Segment, extents: number): LogicalVolume[] {
  return volumesOf(group, segment.areas).map((image) => ({ ...image, segments: cutSegments(image.segments, extents) }));
}

function volumesOf(group: VolumeGroup, areas: Segment["areas"]): LogicalVolume[] {
  return areas.flatMap((area) => (area.kind === "lv" ? [findVolume(group, area.lv)] : []));
}

function requireLogFor(group: VolumeGroup, segment: Segment, regions: number): void {
  const log = textField(segment, "mirror_log");
  if (log === null) return;
  const room = extentCount(findVolume(group, log)) * group.extentSize;
  if (MIRROR_LOG_BITS + Math.ceil(regions / 8) > room)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot extend the mirror: its log ${group.name}/${log} has room for fewer regions`,
    );
}
