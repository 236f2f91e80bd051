/**
 * An old-style snapshot of a volume: a store, and the entry `snapshotN` that joins it to its origin, as LVM2 writes them. Pure; the
 * store's header is written before the group is (stack/lvm/snapshots.ts).
 */
import { DiskError } from "../../errors.js";
import { assign } from "../config/tree.js";
import { SECTOR } from "../layout.js";
import { extentCount, findVolume, type LogicalVolume, type VolumeGroup, volumeSize } from "../metadata.js";
import { DEFAULT_CHUNK, isChunkSize, LEAST_CHUNKS, mostStoreBytes } from "../segments/snapshot/layout.js";
import { snapshotOf, snapshotsOn } from "../segments/snapshot/roles.js";
import { type CreateVolumePlan, type CreateVolumeRequest, planCreateVolume, virtualSegment } from "./create-volume.js";
import { type Size, sizeInExtents } from "./extents.js";
import { messageSize, usage } from "./plan.js";

export interface CreateSnapshotRequest extends Omit<CreateVolumeRequest, "type"> {
  readonly origin: string;
  /** Of the joining entry. */
  readonly jointId: string;
  /** Bytes, a power of two from 4 KiB to 512 KiB. Default 4 KiB. */
  readonly chunkSize?: number;
}

export interface CreateSnapshotPlan extends CreateVolumePlan {
  readonly chunkSize: number;
}

export function planCreateSnapshot(group: VolumeGroup, request: CreateSnapshotRequest): CreateSnapshotPlan {
  const { chunkSize = DEFAULT_CHUNK } = request;
  if (!isChunkSize(chunkSize)) throw usage("Chunk size must be a power of 2 in the range 4K to 512K.");
  const origin = findVolume(group, request.origin);
  refuseOrigin(group, origin);
  const remarks: string[] = [];
  const size = storeSize(group, origin, request.size, chunkSize, remarks);
  const plan = planCreateVolume(group, { ...request, size });
  const store: LogicalVolume = { ...plan.volume, status: plan.volume.status.filter((name) => name !== "VISIBLE") };
  const joint: LogicalVolume = {
    ...plan.volume,
    name: freeJointName(group),
    id: request.jointId,
    status: ["READ", "WRITE", "VISIBLE"],
    flags: [],
    tags: [],
    allocation: "inherit",
    segments: [
      {
        ...virtualSegment("snapshot", extentCount(origin)),
        fields: [
          assign("chunk_size", chunkSize / SECTOR),
          assign("origin", origin.name),
          assign("cow_store", store.name),
        ],
      },
    ],
  };
  return {
    volume: store,
    chunkSize,
    group: { ...group, logicalVolumes: [...group.logicalVolumes, store, joint] },
    steps: [...remarks, ...plan.steps],
  };
}

/** What LVM2 refuses to make a snapshot of. */
function refuseOrigin(group: VolumeGroup, origin: LogicalVolume): void {
  const refuse = (why: string) => {
    throw new DiskError("DENIED", why, { details: { volume: `${group.name}/${origin.name}` } });
  };
  const type = origin.segments[0]?.type ?? "";
  if (snapshotOf(group, origin.name)) refuse("Snapshots of snapshots are not supported.");
  if (origin.status.includes("LOCKED")) refuse("Snapshots of locked devices are not supported.");
  if (origin.status.includes("PVMOVE")) refuse("Snapshots of pvmoves are not supported.");
  if (!origin.status.includes("VISIBLE") || type === "snapshot" || type.endsWith("pool"))
    refuse(`Snapshots of ${type.endsWith("pool") ? "pools" : "hidden volumes"} are not supported.`);
  if (snapshotsOn(group, origin.name).some(({ merging }) => merging))
    refuse("Snapshots of an origin that has a merging snapshot is not supported");
}

/** In extents: no more than is of use, no less than holds an exception. */
function storeSize(group: VolumeGroup, origin: LogicalVolume, size: Size, chunkSize: number, remarks: string[]): Size {
  if (size.sign === "-") throw usage("Negative size is invalid");
  const { extentSize } = group;
  const originExtents = extentCount(origin);
  const most = mostStoreExtents(group, origin, chunkSize);
  const wanted = sizeInExtents(group, size, { current: originExtents, origin: originExtents });
  remarks.push(...wanted.remarks);
  // A share of the origin is a share of its data: what else the store needs comes on top.
  const ofOrigin = size.kind === "percent" && size.of === "ORIGIN";
  const extents = ofOrigin ? wanted.extents + most - originExtents : wanted.extents;
  refuseSmallStore(group, extents, chunkSize);
  if (extents <= most) return wanted.atMost && !ofOrigin ? size : { kind: "extents", sign: "", count: extents };
  remarks.push(
    `Reducing COW size ${messageSize(extents * extentSize)} down to maximum usable size ${messageSize(most * extentSize)}.`,
  );
  return { kind: "extents", sign: "", count: most };
}

/** Extents beyond which a store for this origin is never used. */
export function mostStoreExtents(group: VolumeGroup, origin: LogicalVolume, chunkSize: number): number {
  return Math.ceil(mostStoreBytes(volumeSize(group, origin), chunkSize) / group.extentSize);
}

export function refuseSmallStore({ extentSize }: VolumeGroup, extents: number, chunkSize: number): void {
  const bytes = LEAST_CHUNKS * chunkSize;
  const least = Math.ceil(bytes / extentSize);
  if (extents < least)
    throw new DiskError(
      "NO_SPACE",
      `Snapshot volume cannot be smaller than ${LEAST_CHUNKS} chunks (${least} extents, ${messageSize(bytes)}).`,
    );
}

function freeJointName({ logicalVolumes }: VolumeGroup): string {
  const taken = new Set(logicalVolumes.map(({ name }) => name));
  for (let number = 0; ; number++) if (!taken.has(`snapshot${number}`)) return `snapshot${number}`;
}
