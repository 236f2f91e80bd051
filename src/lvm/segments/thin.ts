/** A thin volume: a device of a pool, which all volumes of the pool share. Linux dm-thin, LVM2 lib/thin/thin.c. */
import { DiskError } from "../../errors.js";
import { SECTOR } from "../layout.js";
import { findVolume, type LogicalVolume, numberField, type Segment, textField } from "../metadata.js";
import { deliverMessages, transactionBefore } from "../thin/messages.js";
import { ThinMetadata } from "../thin/metadata.js";
import { ThinPool } from "../thin/pool.js";
import { readSuperblock } from "../thin/superblock.js";
import { thinDevice } from "../thin/thin-device.js";
import { deviceTarget, type OpenContext, segmentSize, type Target } from "./target.js";

export async function openThin(context: OpenContext, segment: Segment): Promise<Target> {
  const { group, label, writable } = context;
  const poolName = textField(segment, "thin_pool");
  const id = numberField(segment, "device_id");
  if (poolName === null || id === null)
    throw new DiskError("CORRUPT", `Cannot open ${label}: its segment names no pool, or no device of it`);
  const poolVolume = findVolume(group, poolName);
  const pool = await context.share(poolVolume, writable, (below) => openPool(below, poolVolume));
  const external = textField(segment, "external_origin");
  const device = thinDevice(pool, await pool.device(id), {
    label,
    size: segmentSize(group, segment),
    writable,
    externalOrigin: external === null ? null : await context.open(external),
  });
  return deviceTarget(device);
}

/** `context` is the pool's own; what is opened from it is closed with the pool. */
export async function openPool(context: OpenContext, pool: LogicalVolume): Promise<ThinPool> {
  const { group, label } = context;
  const segment = poolSegment(group.name, pool);
  const device = await context.open(textField(segment, "metadata") ?? "");
  const data = await context.open(textField(segment, "pool") ?? "");
  const writable = context.writable && device.writable && data.writable;
  const sectors = numberField(segment, "chunk_size") ?? 0;
  const chunkSize = sectors * SECTOR;
  const dataBlocks = Math.floor(data.size / chunkSize);
  const fresh = writable && transactionBefore(segment) === 0 && (await readSuperblock(device)) === null;
  const metadata = fresh
    ? await ThinMetadata.format(device, { dataBlockSize: sectors, dataBlocks })
    : await ThinMetadata.open(device);
  const refuse = (found: string) => new DiskError("CORRUPT", `Cannot open thin pool ${label}: ${found}`);
  if (metadata.dataBlockSize !== sectors)
    throw refuse(`its metadata has chunks of ${metadata.dataBlockSize} sectors, the volume group says ${sectors}`);
  if (metadata.data.size > dataBlocks)
    throw refuse(`its metadata counts ${metadata.data.size} chunks, its data has room for ${dataBlocks}`);
  if (metadata.needsCheck && writable)
    throw refuse("its metadata is marked as in need of a check, 'xvd lvconvert --repair' does one; reading is allowed");
  const discards = textField(segment, "discards") ?? "passdown";
  const opened = new ThinPool(metadata, data, {
    label,
    chunkSize,
    writable,
    discards: discards === "ignore" || discards === "nopassdown" ? discards : "passdown",
  });
  if (writable && (metadata.data.size < dataBlocks || metadata.blocks.cache.size > metadata.blocks.space.size))
    await opened.administer(async () => {
      await metadata.extendMetadata();
      await metadata.extendData(dataBlocks);
    });
  await deliverMessages(opened, group, pool);
  return opened;
}

function poolSegment(group: string, { name, segments }: LogicalVolume): Segment {
  const [segment] = segments;
  if (segments.length === 1 && segment?.type === "thin-pool") return segment;
  throw new DiskError("CORRUPT", `Cannot open thin pool ${group}/${name}: it is no thin pool of one segment`);
}
