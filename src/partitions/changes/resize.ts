/** A partition's end moves; its start and the bytes that stay within it do not. */
import { alignDown, alignUp } from "../../bytes/align.js";
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import { ALIGNMENT, freeLogicalSpace, freeSpace } from "../free-space.js";
import { makePlan, type TablePlan, usageError } from "../plan.js";
import { findPartition, type Partition, type PartitionTable } from "../table.js";
import { settle } from "./settle.js";

/** Bytes; "all": up to what lies behind. A change of size is relative. */
export type NewSize = number | "all" | { readonly by: number };

/** Throws `NO_SPACE` when something lies behind it, with how far it can grow. */
export function planResize(before: PartitionTable, number: number, size: NewSize): TablePlan {
  const { table, summary } = settle(before);
  const old = findPartition(table, number);
  const most = old.size + spaceBehind(table, old);
  // The end on a mebibyte too, unless that would take something away.
  const alignedMost = Math.max(old.size, alignDown(old.offset + most, ALIGNMENT) - old.offset);
  const wanted = alignUp(
    size === "all" ? alignedMost : typeof size === "number" ? size : old.size + size.by,
    table.sectorSize,
  );
  const subject = `Cannot resize partition ${number} of ${table.device}`;
  if (!(wanted > 0)) throw usageError(`${subject}: its size would be ${wanted} bytes, allowed are more than 0`);
  if (wanted > most) {
    const found = `${formatSize(wanted)} would overlap what lies behind it, there is space for ${formatSize(most)}`;
    throw new DiskError("NO_SPACE", `${subject}: ${found}`, { details: { number, size: old.size, most } });
  }
  refuseToLoseLogical(table, old, wanted, subject);
  const changed = { ...old, size: wanted };
  const partitions = table.partitions.map((other) => (other === old ? changed : other));
  const sentence = `partition ${number}: ${formatSize(old.size)} becomes ${formatSize(wanted)} (${old.size} to ${wanted} bytes)`;
  return makePlan(before, { ...table, partitions }, [...summary, ...(wanted === old.size ? [] : [sentence])]);
}

function spaceBehind(table: PartitionTable, { offset, size, kind }: Partition): number {
  const end = offset + size;
  const runs = kind === "logical" ? freeLogicalSpace(table) : freeSpace(table);
  return runs.find((run) => run.offset === end)?.size ?? 0;
}

function refuseToLoseLogical(table: PartitionTable, old: Partition, wanted: number, subject: string): void {
  if (old.kind !== "extended") return;
  const lost = table.partitions.filter(
    ({ kind, offset, size }) => kind === "logical" && offset + size > old.offset + wanted,
  );
  if (lost.length === 0) return;
  const numbers = lost.map(({ number }) => number);
  throw new DiskError("DENIED", `${subject}: logical partitions ${numbers.join(" ")} would no longer be within it`, {
    details: { numbers },
  });
}
