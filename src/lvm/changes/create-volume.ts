/** A new volume in a group. Pure. */
import { DiskError } from "../../errors.js";
import { type Allocation, allocateExtents, type PeRange } from "../allocate.js";
import { assign, type Entry } from "../config/tree.js";
import { SECTOR } from "../layout.js";
import { type AllocationPolicy, isVisible, type LogicalVolume, type Segment, type VolumeGroup } from "../metadata.js";
import { checkVolumeName } from "../names.js";
import { segmentType } from "../segments/types.js";
import { type Size, type SizedExtents, sizeInExtents } from "./extents.js";
import { type GroupPlan, messageSize, usage } from "./plan.js";
import { continuesSegment } from "./segment-cuts.js";

/** What volumes of every type are asked for. */
export interface NewVolumeRequest {
  /** Default: lvol0, lvol1 … */
  readonly name?: string;
  readonly id: string;
  readonly allocation?: AllocationPolicy;
  readonly tags?: readonly string[];
  readonly readOnly?: boolean;
  readonly autoactivation?: boolean;
  readonly skipActivation?: boolean;
  /** Seconds since 1970. */
  readonly time: number;
  readonly host: string;
}

export interface CreateVolumeRequest extends NewVolumeRequest {
  readonly size: Size;
  /** linear striped error zero; default by the number of stripes. */
  readonly type?: string;
  /** Default 1. */
  readonly stripes?: number;
  /** Bytes, a power of two from 4096 on. Default 64 KiB. */
  readonly stripeSize?: number;
  readonly within?: readonly PeRange[];
  readonly clingTags?: readonly string[];
}

export interface CreateVolumePlan extends GroupPlan {
  readonly volume: LogicalVolume;
}

export const DEFAULT_STRIPE_SIZE = 64 << 10;

export function planCreateVolume(group: VolumeGroup, request: CreateVolumeRequest): CreateVolumePlan {
  const name = nameForNew(group, request);
  const type = typeOf(request);
  const stripes = type === "striped" ? (request.stripes ?? 1) : 1;
  const wanted = wantedExtents(group, request.size, request.within);
  const remarks = [...wanted.remarks];
  const extents = roundToStripes(group, wanted.extents, stripes, wanted.atMost, remarks);
  const segments =
    type === "striped"
      ? stripedSegments(group, request, extents, stripes, wanted.atMost, remarks)
      : [virtualSegment(type, extents)];
  const volume = newVolume(name, request, segments);
  return {
    volume,
    group: { ...group, logicalVolumes: [...group.logicalVolumes, volume] },
    steps: [...remarks, `Logical volume "${name}" created.`],
  };
}

/** The name that a new visible volume gets. Throws when it cannot have it, or the group has enough volumes. */
export function nameForNew(group: VolumeGroup, request: Pick<NewVolumeRequest, "name">): string {
  const name = request.name ?? freeVolumeName(group);
  checkVolumeName(group.name, name);
  refuseTaken(group, name);
  if (group.maxLv > 0 && group.logicalVolumes.filter(isVisible).length >= group.maxLv)
    throw new DiskError(
      "DENIED",
      `Maximum number of logical volumes (${group.maxLv}) reached in volume group ${group.name}`,
    );
  return name;
}

/** Throws for a size of nothing, with the reason. */
export function wantedExtents(group: VolumeGroup, size: Size, within?: readonly PeRange[]): SizedExtents {
  if (size.sign === "-") throw usage("Negative size is invalid");
  const wanted = sizeInExtents(group, size, within ? { within } : {});
  if (wanted.extents > 0) return wanted;
  if (size.kind !== "percent") throw usage("Unable to create new logical volume with no extents");
  throw new DiskError("NO_SPACE", "Unable to create new logical volume with no extents: there is no free space");
}

export function newVolume(name: string, request: NewVolumeRequest, segments: readonly Segment[]): LogicalVolume {
  return {
    name,
    id: request.id,
    status: ["READ", ...(request.readOnly ? [] : ["WRITE"]), "VISIBLE"],
    flags: [
      ...(request.skipActivation ? ["ACTIVATION_SKIP"] : []),
      ...(request.autoactivation === false ? ["NOAUTOACTIVATE"] : []),
    ],
    tags: request.tags ?? [],
    creationTime: request.time,
    creationHost: request.host,
    allocation: request.allocation ?? "inherit",
    segments,
    rest: [],
  };
}

export function refuseTaken(group: VolumeGroup, name: string): void {
  if (group.logicalVolumes.some((volume) => volume.name === name))
    throw new DiskError("DENIED", `Logical Volume "${name}" already exists in volume group "${group.name}"`, {
      details: { exists: true },
    });
}

/** lvol0, lvol1 … behind the highest in use. */
export function freeVolumeName({ logicalVolumes }: VolumeGroup): string {
  const numbers = logicalVolumes.map(({ name }) => Number(/^lvol(\d{1,9})(?:_|$)/.exec(name)?.[1] ?? -1));
  return `lvol${numbers.reduce((most, number) => Math.max(most, number), -1) + 1}`;
}

function typeOf({ type = "striped", stripes = 1, stripeSize }: CreateVolumeRequest): string {
  const name = type === "linear" ? "striped" : type;
  if (type === "linear" && stripes > 1) throw usage(`Cannot create a linear volume with ${stripes} stripes`);
  const known = segmentType(name);
  if (!known) throw usage(`Cannot create a volume of type ${JSON.stringify(type)}: there is no such type`);
  if (!["striped", "error", "zero"].includes(name))
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot create a volume of type ${type}: this version creates linear, striped, error and zero`,
      {
        details: { segmentType: type },
      },
    );
  if (!Number.isInteger(stripes) || stripes < 1 || stripes > 128)
    throw usage(`Number of stripes (${stripes}) must be between 1 and 128`);
  if (stripeSize !== undefined) checkStripeSize(stripeSize);
  return name;
}

export function checkStripeSize(bytes: number): void {
  if (bytes < 4096 || !Number.isInteger(Math.log2(bytes)))
    throw usage(`Invalid stripe size ${messageSize(bytes)}: allowed are powers of two from 4.00 KiB on`);
}

/** Up to whole rows of stripes, or down for a share of what is free. */
export function roundToStripes(
  group: VolumeGroup,
  extents: number,
  stripes: number,
  down: boolean,
  remarks: string[],
): number {
  const over = extents % stripes;
  if (over === 0) return extents;
  const rounded = down && extents > stripes ? extents - over : extents - over + stripes;
  const text = (count: number) => `${messageSize(count * group.extentSize)} (${count} extents)`;
  remarks.push(
    `Rounding size ${text(extents)} ${rounded > extents ? "up" : "down"} to stripe boundary size ${text(rounded)}.`,
  );
  return rounded;
}

function stripedSegments(
  group: VolumeGroup,
  request: CreateVolumeRequest,
  extents: number,
  stripes: number,
  atMost: boolean,
  remarks: string[],
): Segment[] {
  const { within, allocation = "inherit", clingTags } = request;
  const policy = allocation === "inherit" ? (group.allocation as Exclude<AllocationPolicy, "inherit">) : allocation;
  if (stripes > group.physicalVolumes.length && policy !== "anywhere")
    throw new DiskError(
      "NO_SPACE",
      `Number of stripes (${stripes}) must not exceed number of physical volumes (${group.physicalVolumes.length})`,
    );
  const free = sizeInExtents(group, { kind: "percent", sign: "", percent: 100, of: "FREE" }).extents;
  if (!atMost && extents > free)
    throw new DiskError(
      "NO_SPACE",
      `Volume group "${group.name}" has insufficient free space (${free} extents): ${extents} required.`,
      {
        details: { needed: extents, free },
      },
    );
  if (stripes > 1 && request.stripeSize === undefined)
    remarks.push(`Using default stripesize ${messageSize(DEFAULT_STRIPE_SIZE)}.`);
  const stripeSize =
    stripes > 1 ? fitStripe(group, request.stripeSize ?? DEFAULT_STRIPE_SIZE, remarks) : DEFAULT_STRIPE_SIZE;
  const allocations = allocateExtents(group, {
    extents: extents / stripes,
    legs: stripes,
    policy,
    atMost,
    ...(within ? { within } : {}),
    ...(clingTags ? { clingTags } : {}),
  });
  return appendAllocations([], allocations, stripeFields(stripes, stripeSize));
}

/** A stripe is no longer than an extent: the largest power of two that divides one. */
export function fitStripe({ extentSize }: VolumeGroup, stripeSize: number, remarks: string[]): number {
  let fitting = stripeSize;
  while (fitting > 4096 && extentSize % fitting !== 0) fitting /= 2;
  if (extentSize % fitting !== 0)
    throw usage(`Cannot use stripes: extents of ${messageSize(extentSize)} are no multiple of ${messageSize(fitting)}`);
  if (fitting < stripeSize)
    remarks.push(
      `Reducing requested stripe size ${messageSize(stripeSize)} to maximum, physical extent size ${messageSize(extentSize)}.`,
    );
  return fitting;
}

export function stripeFields(stripes: number, stripeSize: number): Entry[] {
  return stripes > 1 ? [assign("stripe_size", stripeSize / SECTOR)] : [];
}

/** New runs behind the present segments; the last segment grows where they continue it. */
export function appendAllocations(
  segments: readonly Segment[],
  allocations: readonly Allocation[],
  fields: readonly Entry[],
): Segment[] {
  const result = [...segments];
  for (const { extents, runs } of allocations) {
    const last = result.at(-1);
    const start = last ? last.start + last.count : 0;
    const added: Segment = {
      start,
      count: extents * runs.length,
      type: "striped",
      typeFlags: [],
      tags: [],
      areas: runs.map(({ pv, first }) => ({ kind: "pv", pv, pe: first })),
      metadataAreas: [],
      fields,
    };
    if (last && continuesSegment(last, added)) result[result.length - 1] = { ...last, count: last.count + added.count };
    else result.push(added);
  }
  return result;
}

export function virtualSegment(type: string, count: number, start = 0): Segment {
  return { start, count, type, typeFlags: [], tags: [], areas: [], metadataAreas: [], fields: [] };
}
