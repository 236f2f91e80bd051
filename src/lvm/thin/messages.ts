/**
 * What a volume group still has to tell its pool. LVM2 lib/thin/thin.c:
 *
 *   group with transaction_id N+1 and messages committed -> pool: messages done, its id N -> N+1, one commit -> group without messages
 *
 * A cut between is healed by the next opening: a pool at N gets the messages, one at N+1 has had them. Any other id means that pool and
 * group are of different times, and the pool is not used.
 */
import { DiskError } from "../../errors.js";
import { findVolume, type LogicalVolume, numberField, type Segment, textField, type VolumeGroup } from "../metadata.js";
import { type PoolMessage, poolMessages } from "./message-fields.js";
import type { ThinMetadata } from "./metadata.js";
import type { ThinPool } from "./pool.js";

/** What the pool's metadata must have as its transaction before the messages. */
export function transactionBefore(segment: Segment): number {
  return (numberField(segment, "transaction_id") ?? 0) - (poolMessages(segment).length > 0 ? 1 : 0);
}

/** Brings an open pool to where its group is. A pool that is open for reading only is brought there in memory. */
export async function deliverMessages(pool: ThinPool, group: VolumeGroup, volume: LogicalVolume): Promise<void> {
  const segment = volume.segments[0]!;
  const messages = poolMessages(segment);
  const wanted = numberField(segment, "transaction_id") ?? 0;
  const found = await pool.look(async (metadata) => metadata.transactionId);
  if (found === wanted) return;
  if (messages.length === 0 || found !== wanted - 1)
    throw new DiskError(
      "CORRUPT",
      `Thin pool ${group.name}/${volume.name} transaction_id is ${found}, while expected ${messages.length > 0 ? wanted - 1 : wanted}`,
      { details: { pool: volume.name, found, expected: wanted } },
    );
  for (const message of messages) if (message.kind === "delete") await pool.shrink(message.deviceId);
  const deliver = async (metadata: ThinMetadata) => {
    for (const message of messages) await deliverMessage(metadata, group, message);
    metadata.setTransactionId(wanted);
  };
  await (pool.options.writable ? pool.administer(deliver) : pool.look(deliver));
}

async function deliverMessage(metadata: ThinMetadata, group: VolumeGroup, message: PoolMessage): Promise<void> {
  if (message.kind === "delete") {
    if (await metadata.hasDevice(message.deviceId)) await metadata.deleteDevice(message.deviceId);
    return;
  }
  const [segment] = findVolume(group, message.volume).segments;
  const id = segment && numberField(segment, "device_id");
  if (!segment || id === null || id === undefined)
    throw new DiskError("CORRUPT", `Cannot create ${group.name}/${message.volume} in its pool: it is no thin volume`);
  const origin = textField(segment, "origin");
  if (origin === null) return metadata.createDevice(id);
  const originId = numberField(findVolume(group, origin).segments[0]!, "device_id");
  if (originId === null)
    throw new DiskError("CORRUPT", `Cannot snapshot ${group.name}/${origin}: it is no thin volume`);
  return metadata.createSnapshot(id, originId);
}
