/** A new RAID volume or mirror with its parts. Pure; the parts' first bytes are written by stack/lvm/raid.ts. */
import { DiskError } from "../../errors.js";
import type { PeRange } from "../allocate.js";
import { assign } from "../config/tree.js";
import type { AllocationPolicy, LogicalVolume, Segment, VolumeGroup } from "../metadata.js";
import { MIRROR_LOG_BITS } from "../raid/layout.js";
import { raidLevel } from "../raid/levels.js";
import {
  type CreateVolumePlan,
  checkStripeSize,
  DEFAULT_STRIPE_SIZE,
  fitStripe,
  type NewVolumeRequest,
  nameForNew,
  newVolume,
  roundToStripes,
  wantedExtents,
} from "./create-volume.js";
import { type Size, sizeInExtents } from "./extents.js";
import { messageSize, usage } from "./plan.js";
import {
  allocateLegs,
  fitRegionSize,
  type LegExtents,
  metadataExtents,
  type PartOrigin,
  partVolume,
  type RaidShape,
  raidSegment,
  volumesUsed,
} from "./raid-parts.js";

export interface CreateRaidRequest extends NewVolumeRequest, PartOrigin {
  /** mirror raid1 raid10 raid4 raid5… raid6… */
  readonly type: string;
  readonly size: Size;
  /** Copies beside the first. Default 1. */
  readonly mirrors?: number;
  /** Data stripes. Default 2, raid6: 3. */
  readonly stripes?: number;
  /** Bytes. Default 64 KiB. */
  readonly stripeSize?: number;
  /** Bytes. Default 2 MiB, less for small volumes. */
  readonly regionSize?: number;
  /** Legs are not made alike. */
  readonly nosync?: boolean;
  /** Of a mirror. Default disk. */
  readonly mirrorLog?: "core" | "disk";
  readonly within?: readonly PeRange[];
  readonly clingTags?: readonly string[];
}

/** How many legs, and how many of their extents make one row of the volume. */
interface Legs {
  readonly legs: number;
  /** Legs whose extents add up to the volume's. */
  readonly width: number;
}

export function planCreateRaid(group: VolumeGroup, request: CreateRaidRequest): CreateVolumePlan {
  const name = nameForNew(group, request);
  const { type, within } = request;
  const { legs, width } = legsOf(request);
  const wanted = wantedExtents(group, request.size, within);
  const remarks = [...wanted.remarks];
  const striped = type !== "raid1" && type !== "mirror";
  if (striped && request.stripeSize === undefined)
    remarks.push(`Using default stripesize ${messageSize(DEFAULT_STRIPE_SIZE)}.`);
  const stripeSize = striped ? fitStripe(group, request.stripeSize ?? DEFAULT_STRIPE_SIZE, remarks) : undefined;
  // A share of what is free has to do for all legs.
  const asked = wanted.atMost ? largestThatFits(group, request, wanted.extents, { legs, width }) : wanted.extents;
  const extents = roundToStripes(group, asked, width, wanted.atMost, remarks);
  const size = extents * group.extentSize;
  const regionSize = fitRegionSize(size, request.regionSize, remarks);
  const made =
    type === "mirror"
      ? mirrorParts(group, name, request, { extents, regionSize, legs })
      : raidParts(group, name, request, {
          extents,
          legs,
          regionSize,
          ...(stripeSize === undefined ? {} : { stripeSize }),
          ...(raidLevel(type)?.level === 10 ? { copies: legs / width } : {}),
        });
  const volume = newVolume(name, request, [made.segment]);
  const marked = request.nosync ? { ...volume, status: [...volume.status, "NOTSYNCED"] } : volume;
  if (request.nosync) remarks.push("WARNING: New mirror won't be synchronised. Don't read what you didn't write!");
  return {
    volume: marked,
    group: { ...group, logicalVolumes: [...group.logicalVolumes, marked, ...made.parts] },
    steps: [...remarks, `Logical volume "${name}" created.`],
  };
}

export function policyOf(
  { allocation }: VolumeGroup,
  own: AllocationPolicy = "inherit",
): Exclude<AllocationPolicy, "inherit"> {
  const policy = own === "inherit" ? allocation : own;
  return policy === "inherit" ? "normal" : policy;
}

function legsOf({ type, mirrors, stripes, stripeSize, nosync }: CreateRaidRequest): Legs {
  const level = raidLevel(type);
  if (!level && type !== "mirror")
    throw usage(`Cannot create a volume of type ${JSON.stringify(type)}: it has no legs`);
  if (stripeSize !== undefined) checkStripeSize(stripeSize);
  if (!level || level.level === 1) {
    const legs = (mirrors ?? 1) + 1;
    if (stripes !== undefined && stripes > 1)
      throw usage(`Cannot create a volume of type ${type} with ${stripes} stripes`);
    const most = level ? 10 : 8;
    if (legs < 2 || legs > most) throw usage(`Cannot create ${type} with ${legs} images: allowed are 2 to ${most}`);
    return { legs, width: 1 };
  }
  if (level.level === 10) {
    if ((mirrors ?? 1) !== 1) throw usage("RAID10 currently supports only 2-way mirroring (i.e. '-m 1')");
    return { legs: checked(stripes ?? 2, 2, 32) * 2, width: stripes ?? 2 };
  }
  if (mirrors !== undefined && mirrors > 0) throw usage(`Cannot create a volume of type ${type} with mirrors`);
  if (nosync && level.parity === 2) throw usage(`nosync option prohibited on RAID6`);
  const least = level.parity === 2 ? 3 : 2;
  const width = checked(stripes ?? least, least, 64 - level.parity);
  return { legs: width + level.parity, width };
}

function checked(stripes: number, least: number, most: number): number {
  if (Number.isInteger(stripes) && stripes >= least && stripes <= most) return stripes;
  throw usage(`Number of stripes (${stripes}) must be between ${least} and ${most}`);
}

/** Less than `extents` when the legs, on volumes of their own, do not find as much. */
function largestThatFits(
  group: VolumeGroup,
  request: CreateRaidRequest,
  extents: number,
  { legs, width }: Legs,
): number {
  const { within } = request;
  const free = sizeInExtents(group, { kind: "percent", sign: "", percent: 100, of: "FREE" }, within ? { within } : {});
  const most = Math.floor(Math.min(extents, (free.extents * width) / legs) / width);
  const rows = largestFitting(most, (imageExtents) => tryLegs(group, request, imageExtents, legs));
  return Math.max(1, rows) * width;
}

/** The largest number up to `most` with which `attempt` does not throw; 0 when there is none. */
export function largestFitting(most: number, attempt: (count: number) => unknown): number {
  let [low, high] = [0, Math.floor(most)];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    try {
      attempt(middle);
      low = middle;
    } catch (error) {
      if (!(error instanceof DiskError) || error.code !== "NO_SPACE") throw error;
      high = middle - 1;
    }
  }
  return low;
}

function tryLegs(group: VolumeGroup, request: CreateRaidRequest, imageExtents: number, legs: number): void {
  const { type, within } = request;
  const bytes = imageExtents * legs * group.extentSize;
  allocateLegs(group, {
    legs,
    imageExtents,
    metadataExtents: type === "mirror" ? 0 : metadataExtents(group, bytes, fitRegionSize(bytes, undefined, [])),
    policy: policyOf(group, request.allocation),
    ...(within ? { within } : {}),
  });
}

interface Made {
  readonly segment: Segment;
  readonly parts: readonly LogicalVolume[];
}

function raidParts(group: VolumeGroup, name: string, request: CreateRaidRequest, shape: RaidShape): Made {
  const { extents, legs, regionSize, copies = 1 } = shape;
  const { type, within, clingTags } = request;
  const parity = raidLevel(type)?.parity ?? 0;
  const width = type === "raid1" ? 1 : (legs - parity) / copies;
  const parts = allocateLegs(group, {
    legs,
    metadataExtents: metadataExtents(group, extents * group.extentSize, regionSize),
    imageExtents: extents / width,
    policy: policyOf(group, request.allocation),
    ...(within ? { within } : {}),
    ...(clingTags ? { clingTags } : {}),
  });
  return {
    segment: raidSegment(name, type, shape),
    parts: parts.flatMap(({ metadata, image }, leg) => [
      partVolume(`${name}_rmeta_${leg}`, request, metadata),
      partVolume(`${name}_rimage_${leg}`, request, image),
    ]),
  };
}

/** Images and log of a mirror. `first`: an image that is there already. */
export function mirrorParts(
  group: VolumeGroup,
  name: string,
  request: MirrorRequest,
  { extents, regionSize, first, legs, avoid }: MirrorShape,
): Made {
  const images = [
    ...(first ? [first] : []),
    ...allocateLegs(group, {
      legs: first ? legs - 1 : legs,
      metadataExtents: 0,
      imageExtents: extents,
      policy: policyOf(group, request.allocation),
      ...(avoid ? { avoid } : {}),
      ...(request.within ? { within: request.within } : {}),
      ...(request.clingTags ? { clingTags: request.clingTags } : {}),
    }).map(({ image }, i) => partVolume(`${name}_mimage_${i + (first ? 1 : 0)}`, request, image)),
  ];
  const withImages = { ...group, logicalVolumes: [...group.logicalVolumes, ...images] };
  const log =
    request.mirrorLog === "core" ? null : mirrorLog(withImages, name, request, images, { extents, regionSize });
  return {
    parts: log ? [log, ...images] : images,
    segment: {
      start: 0,
      count: extents,
      type: "mirror",
      typeFlags: [],
      tags: [],
      areas: images.map((image) => ({ kind: "lv", lv: image.name, le: 0 })),
      metadataAreas: [],
      fields: [...(log ? [assign("mirror_log", log.name)] : []), assign("region_size", regionSize / 512)],
    },
  };
}

interface MirrorShape {
  readonly extents: number;
  /** Bytes. */
  readonly regionSize: number;
  readonly legs: number;
  readonly first?: LogicalVolume;
  readonly avoid?: ReadonlySet<string>;
}

type MirrorRequest = PartOrigin & Pick<CreateRaidRequest, "mirrorLog" | "within" | "allocation" | "clingTags">;

/** On a volume without an image where there is one: the log survives with any of them. */
function mirrorLog(
  group: VolumeGroup,
  name: string,
  request: MirrorRequest,
  images: readonly LogicalVolume[],
  { extents, regionSize }: { extents: number; regionSize: number },
): LogicalVolume {
  const bytes = MIRROR_LOG_BITS + Math.ceil((extents * group.extentSize) / regionSize / 8);
  const one = {
    legs: 1,
    metadataExtents: 0,
    imageExtents: Math.ceil(bytes / group.extentSize),
    policy: "normal" as const,
    ...(request.within ? { within: request.within } : {}),
  };
  const used = new Set(images.flatMap((image) => [...volumesUsed(group, image)]));
  let legs: LegExtents[];
  try {
    legs = allocateLegs(group, { ...one, avoid: used });
  } catch {
    legs = allocateLegs(group, one);
  }
  return partVolume(`${name}_mlog`, request, legs[0]!.image);
}
