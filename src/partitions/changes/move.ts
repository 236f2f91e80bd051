/**
 * A partition with its contents at another place. Here is the pure part: where it may go, and the table before and after
 * its bytes are copied. `../move/run.ts` copies them, in an order that a cut cannot hurt.
 */
import { formatSize } from "../../bytes/size.js";
import { type FreeRun, freeLogicalSpace, freeSpace, place } from "../free-space.js";
import { ebrLba } from "../mbr/write.js";
import { makePlan, type TablePlan, usageError } from "../plan.js";
import { findPartition, type MbrTable, type Partition, type PartitionTable } from "../table.js";
import { settle } from "./settle.js";

/** Bytes from the start of the disk, or by how many bytes. */
export type NewStart = number | { readonly by: number };

export interface MovePlan {
  readonly number: number;
  /** Bytes. */
  readonly from: number;
  readonly to: number;
  readonly size: number;
  /** A table change that has to be written before the bytes are copied: an EBR stands where they go. Plan again after it. */
  readonly first: TablePlan | null;
  /** The table change that makes the new place count, once the bytes are there. */
  readonly table: TablePlan;
}

/** Throws `NO_SPACE` when another partition, or the disk's end, is in the way. */
export function planMove(before: PartitionTable, number: number, start: NewStart): MovePlan {
  const { table, summary } = settle(before);
  const old = findPartition(table, number);
  const purpose = `move partition ${number} of ${table.device}`;
  if (old.kind === "extended")
    throw usageError(`Cannot ${purpose}: it is an extended partition; move the logical ones in it`);
  const wanted = typeof start === "number" ? start : old.offset + start.by;
  if (wanted < 0) throw usageError(`Cannot ${purpose}: it would start at byte ${wanted}`);
  const { offset } = place(freeWithout(table, old), {
    start: wanted,
    size: old.size,
    sectorSize: table.sectorSize,
    purpose,
  });
  const moved = { ...old, offset };
  const partitions = table.partitions.map((other) => (other === old ? moved : other));
  const after = { ...table, partitions } as PartitionTable;
  const sentence = `partition ${number}: ${formatSize(old.size)} from ${formatSize(old.offset)} to ${formatSize(offset)} (byte ${old.offset} to ${offset})`;
  return {
    number,
    from: old.offset,
    to: offset,
    size: old.size,
    first: table.label === "dos" ? ebrOutOfTheWay(table, after as MbrTable, old, offset) : null,
    table: makePlan(before, after, [...summary, ...(offset === old.offset ? [] : [sentence])]),
  };
}

/** What would be free if the partition, and its EBR, were not there. */
function freeWithout(table: PartitionTable, partition: Partition): FreeRun[] {
  const partitions = table.partitions.filter((other) => other !== partition);
  if (partition.kind !== "logical") return freeSpace({ ...table, partitions } as PartitionTable);
  const { onDisk, sectorSize } = table as MbrTable;
  // The first EBR has a fixed place; the others move with their partitions.
  const chain = onDisk.chain.filter(({ number }, i) => i === 0 || number !== partition.number);
  const runs = freeLogicalSpace({ ...table, partitions, onDisk: { ...onDisk, chain } } as MbrTable);
  const isFirst = onDisk.chain[0]?.number === partition.number;
  return isFirst ? runs : runs.map(({ offset, size }) => ({ offset: offset + sectorSize, size: size - sectorSize }));
}

/** An EBR within the partition's new place would be overwritten while the chain still needs it. */
function ebrOutOfTheWay(table: MbrTable, after: MbrTable, old: Partition, to: number): TablePlan | null {
  const ebr = table.onDisk.chain.find(({ number }) => number === old.number);
  if (old.kind !== "logical" || !ebr) return null;
  const at = ebr.lba * table.sectorSize;
  if (at < to || at >= to + old.size) return null;
  const lba = ebrLba(after, old.number);
  const ebrPlaces = new Map([[old.number, lba]]);
  return makePlan(table, { ...table, onDisk: { ...table.onDisk, ebrPlaces } }, [
    `move the EBR of partition ${old.number} to sector ${lba}`,
  ]);
}
