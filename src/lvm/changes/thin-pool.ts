/** A thin pool in a group: made, made of volumes that are there, its spare metadata. Pure. LVM2 lib/metadata/thin_manip.c, pool_manip.c. */
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import type { PeRange } from "../allocate.js";
import { assign, type Entry } from "../config/tree.js";
import { SECTOR } from "../layout.js";
import {
  type AllocationPolicy,
  extentCount,
  findVolume,
  type LogicalVolume,
  type Segment,
  type VolumeGroup,
  volumeSize,
} from "../metadata.js";
import { checkVolumeName } from "../names.js";
import { freeVolumeName, planCreateVolume, refuseTaken } from "./create-volume.js";
import { type Size, sizeInExtents } from "./extents.js";
import { type GroupPlan, messageSize, usage } from "./plan.js";

const KIB = 1024;
const MIB = 1024 * KIB;
export const DEFAULT_CHUNK_SIZE = 64 * KIB;
const MAX_CHUNK_SIZE = 1024 * MIB;
const MIN_METADATA = 2 * MIB;
/** As much as the index block of dm-thin's metadata can count. */
const MAX_METADATA = 255 * 16320 * 4096;
/** LVM2 rather takes larger chunks than more metadata by itself. */
const FITTING_METADATA = 128 * MIB;
/** LVM2's rule of thumb, bytes. */
const METADATA_OF_CHUNK = 64;

export type Discards = "passdown" | "nopassdown" | "ignore";

/** How a pool works, apart from where it lies. */
export interface PoolRequest {
  /** Bytes, a multiple of 64 KiB. Default: 64 KiB, more for large pools. */
  readonly chunkSize?: number;
  /** Bytes; default by the number of chunks. */
  readonly metadataSize?: number;
  /** Whether the group keeps room to repair the metadata in. Default true. */
  readonly spare?: boolean;
  readonly discards?: Discards;
  /** Default true: a chunk that is written in part reads as zeros elsewhere. */
  readonly zero?: boolean;
  readonly errorWhenFull?: boolean;
  /** Seconds since 1970. */
  readonly time: number;
  readonly host: string;
  /** A new id for each volume. */
  newId(): string;
}

export interface CreatePoolRequest extends PoolRequest {
  /** Default: lvol0, lvol1 … */
  readonly name?: string;
  readonly size: Size;
  readonly stripes?: number;
  readonly stripeSize?: number;
  readonly allocation?: AllocationPolicy;
  readonly within?: readonly PeRange[];
  readonly tags?: readonly string[];
}

export interface PoolPlan extends GroupPlan {
  readonly pool: LogicalVolume;
  /** Told to people; not a reason to stop. */
  readonly warnings: readonly string[];
}

export function planCreatePool(group: VolumeGroup, request: CreatePoolRequest): PoolPlan {
  const name = request.name ?? freeVolumeName(group);
  checkVolumeName(group.name, name);
  const wanted = sizeInExtents(group, request.size, request.within ? { within: request.within } : {});
  const geometry = poolGeometry(group, wanted.extents, request);
  const extents = wanted.atMost ? leaveRoom(group, wanted.extents, geometry.metadataExtents, request) : null;
  const { newId, time, host, within, allocation, tags } = request;
  const place = { time, host, ...(within ? { within } : {}), ...(allocation ? { allocation } : {}) };
  const data = planCreateVolume(group, {
    ...place,
    name,
    id: newId(),
    size: extents === null ? request.size : { kind: "extents", sign: "", count: extents },
    ...(request.stripes === undefined ? {} : { stripes: request.stripes }),
    ...(request.stripeSize === undefined ? {} : { stripeSize: request.stripeSize }),
    ...(tags ? { tags } : {}),
  });
  const metadataName = freeVolumeName(data.group);
  const metadata = planCreateVolume(data.group, {
    ...place,
    name: metadataName,
    id: newId(),
    size: { kind: "extents", sign: "", count: geometry.metadataExtents },
  });
  const joined = joinPool(metadata.group, name, metadataName, { ...request, chunkSize: geometry.chunkSize });
  const most = Math.floor(MAX_METADATA / METADATA_OF_CHUNK) * geometry.chunkSize;
  return {
    ...joined,
    steps: [
      ...data.steps.slice(0, -1),
      `Thin pool volume with chunk size ${messageSize(geometry.chunkSize)} can address at most ${messageSize(most)} of data.`,
      `Logical volume "${name}" created.`,
    ],
  };
}

/** A share of what is free has to leave room for the metadata and its spare. */
function leaveRoom(group: VolumeGroup, extents: number, metadata: number, { spare = true, within }: CreatePoolRequest) {
  const all = { kind: "percent", sign: "", percent: 100, of: "FREE" } as const;
  const free = sizeInExtents(group, all, within ? { within } : {}).extents;
  const more = spare ? Math.max(0, metadata - spareExtents(group)) : 0;
  return Math.max(1, Math.min(extents, free - metadata - more));
}

interface Geometry {
  /** Bytes. */
  readonly chunkSize: number;
  readonly metadataExtents: number;
}

export function poolGeometry({ extentSize }: VolumeGroup, dataExtents: number, request: PoolRequest): Geometry {
  const dataSize = dataExtents * extentSize;
  let chunkSize = request.chunkSize ?? DEFAULT_CHUNK_SIZE;
  if (chunkSize % DEFAULT_CHUNK_SIZE !== 0 || chunkSize < DEFAULT_CHUNK_SIZE || chunkSize > MAX_CHUNK_SIZE)
    throw usage(
      `Invalid chunk size ${messageSize(chunkSize)}: allowed are multiples of 64.00 KiB up to ${messageSize(MAX_CHUNK_SIZE)}`,
    );
  if (request.chunkSize === undefined)
    while (
      (dataSize / chunkSize) * METADATA_OF_CHUNK > (request.metadataSize ?? FITTING_METADATA) &&
      chunkSize < MAX_CHUNK_SIZE
    )
      chunkSize *= 2;
  const wanted = request.metadataSize ?? Math.ceil(dataSize / chunkSize) * METADATA_OF_CHUNK;
  const most = Math.floor(MAX_METADATA / extentSize) * extentSize;
  const bytes = Math.min(Math.max(wanted, MIN_METADATA), Math.max(most, extentSize));
  return { chunkSize, metadataExtents: alignUp(bytes, extentSize) / extentSize };
}

/** Makes a pool of two volumes that hold nothing any more; the data's name and id become the pool's. */
export function joinPool(group: VolumeGroup, dataName: string, metadataName: string, request: PoolRequest): PoolPlan {
  const data = findVolume(group, dataName);
  const metadata = findVolume(group, metadataName);
  for (const part of ["tdata", "tmeta"]) refuseTaken(group, `${dataName}_${part}`);
  const { chunkSize = DEFAULT_CHUNK_SIZE, discards = "passdown", zero = true, time, host } = request;
  const entries: Entry[] = [
    assign("metadata", `${dataName}_tmeta`),
    assign("pool", `${dataName}_tdata`),
    assign("transaction_id", 0),
    assign("chunk_size", chunkSize / SECTOR),
    assign("discards", discards),
    ...(zero ? [assign("zero_new_blocks", 1)] : []),
  ];
  const pool: LogicalVolume = {
    ...data,
    status: ["READ", "WRITE", "VISIBLE"],
    flags: [...data.flags, ...(request.errorWhenFull ? ["ERROR_WHEN_FULL"] : [])],
    creationTime: time,
    creationHost: host,
    segments: [fieldSegment("thin-pool", extentCount(data), entries)],
    rest: [],
  };
  const hidden = (volume: LogicalVolume, name: string, id: string): LogicalVolume => ({
    ...volume,
    name,
    id,
    status: ["READ", "WRITE"],
    flags: [],
    tags: [],
  });
  const others = group.logicalVolumes.filter((volume) => volume !== data && volume !== metadata);
  const joined = {
    ...group,
    logicalVolumes: [
      ...others,
      pool,
      hidden(metadata, `${dataName}_tmeta`, metadata.id),
      hidden(data, `${dataName}_tdata`, request.newId()),
    ],
  };
  const spare = request.spare === false ? { group: joined, warnings: [] } : ensureSpare(joined, request);
  return { ...spare, pool, steps: [`Converted ${group.name}/${dataName} to thin pool.`] };
}

export function fieldSegment(type: string, count: number, fields: readonly Entry[]): Segment {
  return { start: 0, count, type, typeFlags: [], tags: [], areas: [], metadataAreas: [], fields };
}

const SPARE = /^lvol\d+_pmspare$/;

export function spareVolume({ logicalVolumes }: VolumeGroup): LogicalVolume | undefined {
  return logicalVolumes.find(({ name }) => SPARE.test(name));
}

function spareExtents(group: VolumeGroup): number {
  const spare = spareVolume(group);
  return spare ? extentCount(spare) : 0;
}

/** Room as large as the largest metadata of a pool, in which it can be repaired. Without free extents the group does without. */
export function ensureSpare(
  group: VolumeGroup,
  { newId, time, host }: Pick<PoolRequest, "newId" | "time" | "host">,
): { group: VolumeGroup; warnings: readonly string[] } {
  const needed = Math.max(0, ...group.logicalVolumes.filter(isPoolMetadata).map(extentCount));
  const present = spareVolume(group);
  if (present && extentCount(present) >= needed) return { group, warnings: [] };
  const without = { ...group, logicalVolumes: group.logicalVolumes.filter((volume) => volume !== present) };
  try {
    const name = freeVolumeName(without);
    const id = present?.id ?? newId();
    const plan = planCreateVolume(without, {
      name,
      id,
      size: { kind: "extents", sign: "", count: needed },
      time,
      host,
    });
    const spare = { ...plan.volume, name: present?.name ?? `${name}_pmspare`, status: ["READ", "WRITE"] };
    return { group: { ...without, logicalVolumes: [...without.logicalVolumes, spare] }, warnings: [] };
  } catch (error) {
    if (!(error instanceof DiskError) || error.code !== "NO_SPACE") throw error;
    const size = messageSize(needed * group.extentSize);
    return {
      group,
      warnings: [
        `WARNING: There is no room for ${size} of spare pool metadata: the metadata of a pool cannot be repaired in place.`,
      ],
    };
  }
}

/** No pool is left: its spare goes too. */
export function dropSpare(group: VolumeGroup): VolumeGroup {
  if (group.logicalVolumes.some(isPoolMetadata)) return group;
  return { ...group, logicalVolumes: group.logicalVolumes.filter(({ name }) => !SPARE.test(name)) };
}

function isPoolMetadata({ name }: LogicalVolume): boolean {
  return name.endsWith("_tmeta");
}

/** The volume as a pool. Throws when it is none. */
export function findPool(group: VolumeGroup, name: string): { pool: LogicalVolume; segment: Segment } {
  const pool = findVolume(group, name);
  const [segment] = pool.segments;
  if (segment?.type === "thin-pool") return { pool, segment };
  throw new DiskError("UNSUPPORTED", `Logical volume ${group.name}/${name} is not a thin pool.`, {
    details: { usage: true },
  });
}

/** Bytes that the thin volumes of a pool promise together. */
export function promisedSize(group: VolumeGroup, thins: readonly LogicalVolume[]): number {
  return thins.reduce((sum, thin) => sum + volumeSize(group, thin), 0);
}
