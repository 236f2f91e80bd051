/** Removing partitions. GPT slots and MBR primaries keep their numbers; MBR logical numbers are places in a chain, and close up. */
import { formatSize } from "../../bytes/size.js";
import { FIRST_LOGICAL } from "../mbr/read.js";
import { makePlan, type TablePlan } from "../plan.js";
import { findPartition, type Partition, type PartitionTable } from "../table.js";
import { typeName } from "../type-codes.js";
import { settle } from "./settle.js";

/** Throws `NOT_FOUND` for a number that there is not. The contents of the partition stay on the disk. */
export function planRemove(before: PartitionTable, number: number): TablePlan {
  const { table, summary } = settle(before);
  const partition = findPartition(table, number);
  const kept = table.partitions.filter(
    (other) => other !== partition && !(partition.kind === "extended" && other.kind === "logical"),
  );
  const renumbered = renumber(kept);
  const sentences = [
    `remove partition ${number}: ${formatSize(partition.size)} at ${formatSize(partition.offset)}, ${typeName(table.label, partition.type)}`,
  ];
  for (const { number: gone } of table.partitions.filter((other) => other !== partition && !kept.includes(other)))
    sentences.push(`remove logical partition ${gone} with it`);
  for (const [i, { number: old }] of kept.entries())
    if (renumbered[i]!.number !== old) sentences.push(`logical partition ${old} becomes ${renumbered[i]!.number}`);
  return makePlan(before, { ...table, partitions: renumbered }, [...summary, ...sentences]);
}

function renumber(partitions: readonly Partition[]): Partition[] {
  let next = FIRST_LOGICAL;
  return partitions.map((partition) => (partition.kind === "logical" ? { ...partition, number: next++ } : partition));
}
