/** New identities for a copied disk: the disk's own, and every GPT partition's. Nothing else changes. */
import type { BlockDevice } from "../../block/device.js";
import { randomGuid } from "../../bytes/guid.js";
import { makePlan, type TablePlan } from "../plan.js";
import { formatOf } from "../registry.js";
import { type PartitionTable, readPartitionTable } from "../table.js";
import { writePlan } from "../write.js";
import { settle } from "./settle.js";

export interface NewId {
  /** `GPT disk GUID`, `MBR signature`, `GUID of partition 2`. */
  readonly what: string;
  readonly old: string;
  readonly new: string;
}

export function planNewIds(
  before: PartitionTable,
  random: (size: number) => Uint8Array,
): { plan: TablePlan; changes: NewId[] } {
  const { table, summary } = settle(before);
  const id = formatOf(table).newId(random);
  const changes: NewId[] = [
    { what: table.label === "gpt" ? "GPT disk GUID" : "MBR signature", old: table.id, new: id },
  ];
  const partitions = table.partitions.map((partition) => {
    if (partition.uuid === null) return partition;
    const uuid = randomGuid(random);
    changes.push({ what: `GUID of partition ${partition.number}`, old: partition.uuid, new: uuid });
    return { ...partition, uuid };
  });
  const sentences = changes.map((change) => `${change.what}: ${change.old} becomes ${change.new}`);
  return { plan: makePlan(before, { ...table, id, partitions }, [...summary, ...sentences]), changes };
}

/** Gives a disk new identities, and tells which. Empty for a disk without a partition table. */
export async function newPartitionIds(device: BlockDevice, random: (size: number) => Uint8Array): Promise<NewId[]> {
  const table = await readPartitionTable(device);
  if (!table) return [];
  const { plan, changes } = planNewIds(table, random);
  await writePlan(device, plan);
  return changes;
}
