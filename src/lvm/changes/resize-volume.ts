/** A volume made larger or smaller. Pure; what lies on the volume is not looked at. */
import { DiskError } from "../../errors.js";
import { allocateExtents, type PeRange } from "../allocate.js";
import { SECTOR } from "../layout.js";
import {
  type AllocationPolicy,
  areaExtents,
  extentCount,
  findVolume,
  type LogicalVolume,
  numberField,
  type Segment,
  type VolumeGroup,
} from "../metadata.js";
import { chunkSizeOf, snapshotOf, snapshotsOn } from "../segments/snapshot/roles.js";
import { mostStoreExtents, refuseSmallStore } from "./create-snapshot.js";
import {
  appendAllocations,
  checkStripeSize,
  DEFAULT_STRIPE_SIZE,
  fitStripe,
  roundToStripes,
  stripeFields,
} from "./create-volume.js";
import { volumesAbove } from "./dependents.js";
import { type Size, sizeInExtents } from "./extents.js";
import { type GroupPlan, messageSize, usage } from "./plan.js";

export interface ResizeVolumeRequest {
  readonly name: string;
  readonly size: Size;
  /** lvextend and lvreduce go one way only; lvresize either. */
  readonly way: "extend" | "reduce" | "resize";
  /** Of the new part; default: as the last segment. */
  readonly stripes?: number;
  readonly stripeSize?: number;
  readonly allocation?: AllocationPolicy;
  readonly within?: readonly PeRange[];
  readonly clingTags?: readonly string[];
}

export interface ResizeVolumePlan extends GroupPlan {
  /** Extents before and after. */
  readonly from: number;
  readonly to: number;
}

export function planResizeVolume(group: VolumeGroup, request: ResizeVolumeRequest): ResizeVolumePlan {
  const volume = findVolume(group, request.name);
  refuseComplex(group, volume);
  const from = extentCount(volume);
  const remarks: string[] = [];
  const { target, atMost } = withinStore(group, volume, targetSize(group, request, from, remarks), from, remarks);
  if (target < from && snapshotsOn(group, volume.name).length > 0)
    throw new DiskError("DENIED", "Snapshot origin volumes cannot be reduced in size yet.");
  const last = volume.segments.at(-1);
  const stripes = request.stripes ?? (last?.type === "striped" ? last.areas.length : 1);
  if (target > from) return grow(group, volume, request, { from, target, stripes, atMost, remarks });
  const rounded = Math.max(1, roundToSegment(group, volume, target, remarks));
  if (rounded === from) throw matches(from);
  return finish(group, { ...volume, segments: cutSegments(volume.segments, rounded) }, from, rounded, remarks);
}

/** The size that is asked for, in extents. Throws when it is the present one, or on the wrong side of it. */
export function targetSize(
  group: VolumeGroup,
  { size, way, within }: ResizeVolumeRequest,
  from: number,
  remarks: string[],
) {
  const wanted = sizeInExtents(group, size, { current: from, up: size.sign !== "-", ...(within ? { within } : {}) });
  remarks.push(...wanted.remarks);
  const relative = size.kind === "percent" && size.of === "FREE" && size.sign === "" ? "+" : size.sign; // -l 100%FREE grows by that
  const target = relative === "+" ? from + wanted.extents : relative === "-" ? from - wanted.extents : wanted.extents;
  if (way === "extend" && size.sign === "-") throw usage("Negative argument not permitted - use lvreduce");
  if (way === "reduce" && size.sign === "+") throw usage("Positive sign not permitted - use lvextend");
  if (target <= 0)
    throw new DiskError(
      "DENIED",
      `Unable to reduce ${group.name} to ${target} extents: a volume has at least one, 'xvd lvremove' removes it`,
    );
  if (target === from) throw matches(from);
  if (way === "extend" && target < from)
    throw new DiskError("DENIED", `New size given (${target} extents) not larger than existing size (${from} extents)`);
  if (way === "reduce" && target > from)
    throw new DiskError("DENIED", `New size given (${target} extents) not less than existing size (${from} extents)`);
  return { target, atMost: wanted.atMost };
}

interface Target {
  readonly target: number;
  readonly atMost: boolean;
}

/** A snapshot's store is never larger than it can be full, nor so small that it holds nothing. */
function withinStore(
  group: VolumeGroup,
  volume: LogicalVolume,
  wanted: Target,
  from: number,
  remarks: string[],
): Target {
  const joint = snapshotOf(group, volume.name);
  if (!joint) return wanted;
  if (joint.merging)
    throw new DiskError("DENIED", `Cannot resize logical volume ${group.name}/${volume.name}: it is merging`);
  const chunkSize = chunkSizeOf(joint);
  const most = mostStoreExtents(group, findVolume(group, joint.origin), chunkSize);
  refuseSmallStore(group, wanted.target, chunkSize);
  if (wanted.target <= Math.max(most, from)) return wanted;
  if (most <= from) throw matches(from);
  remarks.push(`Reached maximum COW size ${messageSize(most * group.extentSize)} (${most} extents).`);
  return { ...wanted, target: most };
}

function matches(from: number): DiskError {
  return new DiskError("DENIED", `New size (${from} extents) matches existing size (${from} extents).`, {
    details: { same: true },
  });
}

/** Volumes of several parts, and those that others are made of. */
function refuseComplex(group: VolumeGroup, volume: LogicalVolume): void {
  const type = volume.segments.find((segment) => !["striped", "error", "zero", "thin"].includes(segment.type))?.type;
  if (type !== undefined)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot resize logical volume ${group.name}/${volume.name}: it is of type ${type}, this version resizes linear, striped, thin, error and zero`,
      {
        details: { segmentType: type },
      },
    );
  // Old-style snapshots are resized with their origin, thin volumes and their snapshots have sizes of their own.
  const apart = volume.segments[0]?.type === "thin" ? ["snapshot", "thin"] : ["snapshot"];
  const [user] = volumesAbove(group, volume.name).filter(({ segments }) => !apart.includes(segments[0]?.type ?? ""));
  if (user)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot resize logical volume ${group.name}/${volume.name}: ${user.name} (${user.segments[0]?.type}) is made with it`,
    );
}

interface Growth {
  readonly from: number;
  readonly target: number;
  readonly stripes: number;
  readonly atMost: boolean;
  readonly remarks: string[];
}

function grow(
  group: VolumeGroup,
  volume: LogicalVolume,
  request: ResizeVolumeRequest,
  growth: Growth,
): ResizeVolumePlan {
  const { from, target, stripes, atMost, remarks } = growth;
  const last = volume.segments.at(-1)!;
  if (last.type !== "striped") {
    const segments = [...volume.segments.slice(0, -1), { ...last, count: target - last.start }];
    return finish(group, { ...volume, segments }, from, target, remarks);
  }
  if (!Number.isInteger(stripes) || stripes < 1 || stripes > 128)
    throw usage(`Number of stripes (${stripes}) must be between 1 and 128`);
  const wanted = request.stripeSize ?? (numberField(last, "stripe_size") ?? DEFAULT_STRIPE_SIZE / SECTOR) * SECTOR;
  if (stripes > 1) checkStripeSize(wanted);
  const stripeSize = stripes > 1 ? fitStripe(group, wanted, remarks) : wanted;
  const added = roundToStripes(group, target - from, stripes, false, remarks);
  const free = sizeInExtents(group, { kind: "percent", sign: "", percent: 100, of: "FREE" }).extents;
  if (!atMost && added > free)
    throw new DiskError("NO_SPACE", `Insufficient free space: ${added} extents needed, but only ${free} available`, {
      details: { needed: added, free },
    });
  const own = request.allocation ?? volume.allocation;
  const policy = own === "inherit" ? (group.allocation as Exclude<AllocationPolicy, "inherit">) : own;
  const ends = last.areas.length === stripes ? endsOf(last) : null;
  const allocations = allocateExtents(group, {
    extents: added / stripes,
    legs: stripes,
    policy,
    atMost,
    ...(ends ? { ends } : {}),
    ...(request.within ? { within: request.within } : {}),
    ...(request.clingTags ? { clingTags: request.clingTags } : {}),
  });
  const segments = appendAllocations(volume.segments, allocations, stripeFields(stripes, stripeSize));
  const to = segments.at(-1)!.start + segments.at(-1)!.count;
  return finish(group, { ...volume, segments }, from, to, remarks);
}

/** Null when a leg ends on another volume than a physical one. */
function endsOf(segment: Segment): PeRange[] | null {
  const ends = segmentEnds(segment);
  return ends.length === segment.areas.length ? ends : null;
}

/** What each leg of a segment has on physical volumes. */
export function segmentEnds(segment: Segment): PeRange[] {
  const count = areaExtents(segment);
  return segment.areas.flatMap((area) => (area.kind === "pv" ? [{ pv: area.pv, first: area.pe, count }] : []));
}

/** A striped segment is cut between rows. */
function roundToSegment(group: VolumeGroup, volume: LogicalVolume, target: number, remarks: string[]): number {
  const cut = volume.segments.find(({ start, count }) => target > start && target < start + count);
  if (cut?.type !== "striped") return target;
  return cut.start + roundToStripes(group, target - cut.start, cut.areas.length, false, remarks);
}

export function cutSegments(segments: readonly Segment[], end: number): Segment[] {
  return segments
    .filter(({ start }) => start < end)
    .map((segment) => ({ ...segment, count: Math.min(segment.count, end - segment.start) }));
}

function finish(
  group: VolumeGroup,
  volume: LogicalVolume,
  from: number,
  to: number,
  remarks: readonly string[],
): ResizeVolumePlan {
  const logicalVolumes = group.logicalVolumes.map((other) => (other.name === volume.name ? volume : other));
  return resizedPlan({ ...group, logicalVolumes }, volume, from, to, remarks);
}

/** The plan for a group that has the resized volume already. */
export function resizedPlan(
  group: VolumeGroup,
  volume: LogicalVolume,
  from: number,
  to: number,
  remarks: readonly string[],
): ResizeVolumePlan {
  const text = (count: number) => `${messageSize(count * group.extentSize)} (${count} extents)`;
  const name = `${group.name}/${volume.name}`;
  return {
    from,
    to,
    group,
    steps: [
      ...remarks,
      `Size of logical volume ${name} changed from ${text(from)} to ${text(to)}.`,
      `Logical volume ${name} successfully resized.`,
    ],
  };
}
