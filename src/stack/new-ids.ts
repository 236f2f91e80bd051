/** New identities for a copied disk, through all layers: partition table, partitions, volume groups, the file systems on them. */
import type { BlockDevice } from "../block/device.js";
import type { Random } from "../filesystems/filesystem.js";
import { identifyFilesystem, newFilesystemId } from "../filesystems/identify.js";
import { newPartitionIds } from "../partitions/changes/new-ids.js";
import { openPartition, readPartitionTable } from "../partitions/table.js";
import { renewGroups } from "./lvm/new-ids.js";
import { withPartitions } from "./lvm/session.js";

export interface IdChange {
  /** `GPT disk GUID`, `p2: ext4 UUID`. */
  readonly what: string;
  readonly old: string;
  /** Null: this kind of thing keeps its id. */
  readonly new: string | null;
  readonly note?: string;
}

/** File systems and volume groups first, then the table: whoever finds a new table finds new contents too. Flushes. */
export async function renewIds(device: BlockDevice, random: Random): Promise<IdChange[]> {
  const table = await readPartitionTable(device);
  const groups = await renewGroups(await withPartitions("disk", device), random);
  const filesystems = table ? [] : await renewFilesystem(device, "", random);
  for (const { number, kind } of table?.partitions ?? [])
    if (kind !== "extended")
      filesystems.push(...(await renewFilesystem(openPartition(device, table!, number), `p${number}: `, random)));
  const changes = table ? await newPartitionIds(device, random) : [];
  await device.flush();
  return [...changes, ...groups, ...filesystems];
}

async function renewFilesystem(device: BlockDevice, prefix: string, random: Random): Promise<IdChange[]> {
  const change = await newFilesystemId(device, random);
  if (change) return [{ ...change, what: `${prefix}${change.what}` }];
  const kept = await identifyFilesystem(device);
  if (!kept?.uuid || kept.type === "LVM2_member") return [];
  return [{ what: `${prefix}${kept.type} UUID`, old: kept.uuid, new: null }];
}
