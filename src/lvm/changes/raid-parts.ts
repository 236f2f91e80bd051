/** The volumes that RAID volumes and mirrors are made of: their sizes, extents and names. Pure. */
import { type Allocation, allocateExtents, type PeRange } from "../allocate.js";
import { assign } from "../config/tree.js";
import type { AllocationPolicy, LogicalVolume, PhysicalVolume, Segment, VolumeGroup } from "../metadata.js";
import { metadataSize } from "../raid/superblock.js";
import { appendAllocations } from "./create-volume.js";
import { messageSize, usage } from "./plan.js";

/** Bytes; LVM2's activation/raid_region_size. */
export const DEFAULT_REGION_SIZE = 2 << 20;
/** Bits that the kernel's bitmap may have. */
const MOST_REGIONS = 2 ** 21;

/** Parts get identities, and the time and host of what they belong to. */
export interface PartOrigin {
  newId(): string;
  /** Seconds since 1970. */
  readonly time: number;
  readonly host: string;
}

export function partVolume(name: string, origin: PartOrigin, segments: readonly Segment[]): LogicalVolume {
  return {
    name,
    id: origin.newId(),
    status: ["READ", "WRITE"],
    flags: [],
    tags: [],
    creationTime: origin.time,
    creationHost: origin.host,
    allocation: "inherit",
    segments,
    rest: [],
  };
}

/** Extents of `_rmeta` for images of so many bytes. LVM2 reckons without the bitmap's header; it fits all the same. */
export function metadataExtents(group: VolumeGroup, bytes: number, regionSize: number): number {
  return Math.ceil(Math.max(8192, metadataSize(Math.ceil(bytes / regionSize))) / group.extentSize);
}

/** The wanted size of regions, or the default, as it fits a volume of `size` bytes. */
export function fitRegionSize(size: number, wanted: number | undefined, remarks: string[]): number {
  if (wanted !== undefined && (wanted < 4096 || !Number.isInteger(Math.log2(wanted))))
    throw usage(`Region size (${messageSize(wanted)}) must be a power of 2 from 4.00 KiB on`);
  let region = wanted ?? DEFAULT_REGION_SIZE;
  while (region > size) region /= 2;
  if (region < (wanted ?? DEFAULT_REGION_SIZE))
    remarks.push(`Using reduced mirror region size of ${messageSize(region)}`);
  const before = region;
  while (size / region > MOST_REGIONS) region *= 2;
  if (region > before) remarks.push(`Adjusted region size to ${messageSize(region)}: ${MOST_REGIONS} regions at most.`);
  return region;
}

/** What one leg gets: its runs, the first of them for metadata. */
export interface LegExtents {
  readonly metadata: readonly Segment[];
  readonly image: readonly Segment[];
}

export interface LegRequest {
  readonly legs: number;
  readonly metadataExtents: number;
  readonly imageExtents: number;
  readonly policy: Exclude<AllocationPolicy, "inherit">;
  readonly within?: readonly PeRange[];
  /** Volumes that each new leg must not share with these. */
  readonly avoid?: ReadonlySet<string>;
  readonly clingTags?: readonly string[];
}

/** Metadata first, then the image, each leg on volumes of its own. Throws `NO_SPACE`. */
export function allocateLegs(group: VolumeGroup, request: LegRequest): LegExtents[] {
  const { legs, metadataExtents: first, imageExtents, policy, avoid, clingTags } = request;
  const within = policy === "anywhere" ? request.within : without(group, request.within, avoid);
  const allocations = allocateExtents(group, {
    extents: first + imageExtents,
    legs,
    policy,
    apart: Array.from({ length: legs }, () => []),
    ...(within ? { within } : {}),
    ...(clingTags ? { clingTags } : {}),
  });
  return Array.from({ length: legs }, (_, leg) => {
    const runs = allocations.map(({ runs: all }) => all[leg]!);
    return { metadata: segmentsOf(cut(runs, 0, first)), image: segmentsOf(cut(runs, first, first + imageExtents)) };
  });
}

/** All that may be used, less some volumes; undefined for everything. */
function without(
  { physicalVolumes }: VolumeGroup,
  within: readonly PeRange[] | undefined,
  avoid: ReadonlySet<string> | undefined,
): readonly PeRange[] | undefined {
  if (!avoid || avoid.size === 0) return within;
  const whole = ({ name, peCount }: PhysicalVolume) => ({ pv: name, first: 0, count: peCount });
  return (within ?? physicalVolumes.map(whole)).filter(({ pv }) => !avoid.has(pv));
}

/** Extents `from` to `to` of runs laid end to end. */
function cut(runs: readonly PeRange[], from: number, to: number): PeRange[] {
  const parts: PeRange[] = [];
  let position = 0;
  for (const { pv, first, count } of runs) {
    const start = Math.max(from, position);
    const end = Math.min(to, position + count);
    if (end > start) parts.push({ pv, first: first + start - position, count: end - start });
    position += count;
  }
  return parts;
}

function segmentsOf(runs: readonly PeRange[]): Segment[] {
  const allocations: Allocation[] = runs.map((run) => ({ extents: run.count, runs: [run] }));
  return appendAllocations([], allocations, []);
}

/** Names of physical volumes that a volume lies on, its parts included. */
export function volumesUsed(group: VolumeGroup, volume: LogicalVolume): Set<string> {
  const used = new Set<string>();
  for (const { areas, metadataAreas } of volume.segments)
    for (const area of [...areas, ...metadataAreas])
      if (area.kind === "pv") used.add(area.pv);
      else {
        const below = group.logicalVolumes.find(({ name }) => name === area.lv);
        for (const pv of below ? volumesUsed(group, below) : []) used.add(pv);
      }
  return used;
}

/** The one segment of a RAID volume, of legs `NAME_rmeta_N` and `NAME_rimage_N`. */
export function raidSegment(
  name: string,
  type: string,
  { extents, legs, regionSize, stripeSize, copies }: RaidShape,
): Segment {
  const area = (part: string, leg: number) => ({ kind: "lv" as const, lv: `${name}_${part}_${leg}`, le: 0 });
  const numbers = Array.from({ length: legs }, (_, leg) => leg);
  return {
    start: 0,
    count: extents,
    type,
    typeFlags: [],
    tags: [],
    areas: numbers.map((leg) => area("rimage", leg)),
    metadataAreas: numbers.map((leg) => area("rmeta", leg)),
    fields: [
      ...(copies === undefined ? [] : [assign("data_copies", copies)]),
      assign("region_size", regionSize / 512),
      ...(stripeSize === undefined ? [] : [assign("stripe_size", stripeSize / 512)]),
    ],
  };
}

export interface RaidShape {
  /** Of the volume. */
  readonly extents: number;
  readonly legs: number;
  /** Bytes. */
  readonly regionSize: number;
  /** Bytes; not for raid1. */
  readonly stripeSize?: number;
  /** raid10 only. */
  readonly copies?: number;
}
