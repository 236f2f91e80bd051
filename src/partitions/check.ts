/** Checks across a table that has been read: overlaps, reach, and the fifteen. */
import { formatSize } from "../bytes/size.js";
import type { Partition, PartitionTable, TableProblem } from "./table.js";

/** Xen gives a disk sixteen minor numbers, one of them for the whole disk: xvda, xvda1 … xvda15. */
export const MAX_PARTITIONS = 15;

/** Enough to act upon; a hostile table of thousands of equal entries has millions of pairs. */
const MAX_OVERLAPS = 64;

export function crossCheck(table: PartitionTable): TableProblem[] {
  return [...overlaps(table), ...reach(table), ...sameGuids(table), ...beyondFifteen(table)];
}

/** Whether the two share a byte that only one of them may have. A logical partition lies within the extended one by its nature. */
export function inConflict(a: Partition, b: Partition): boolean {
  if ((a.kind === "extended" && b.kind === "logical") || (a.kind === "logical" && b.kind === "extended")) return false;
  return a.offset < b.offset + b.size && b.offset < a.offset + a.size;
}

function overlaps(table: PartitionTable): TableProblem[] {
  const sorted = [...table.partitions].sort((a, b) => a.offset - b.offset);
  const problems: TableProblem[] = [];
  const open: Partition[] = []; // those that reach past the current one's start
  for (const partition of sorted) {
    if (problems.length > MAX_OVERLAPS) break;
    for (let i = open.length - 1; i >= 0; i--)
      if (open[i]!.offset + open[i]!.size <= partition.offset) open.splice(i, 1);
    for (const other of open)
      if (inConflict(partition, other))
        problems.push({
          code: "overlap",
          level: "damage",
          message: `partitions ${pair(other, partition)} overlap from byte ${partition.offset}`,
        });
    open.push(partition);
  }
  return problems;
}

function pair(a: Partition, b: Partition): string {
  return `${Math.min(a.number, b.number)} and ${Math.max(a.number, b.number)}`;
}

function reach(table: PartitionTable): TableProblem[] {
  const problems: TableProblem[] = [];
  const extended = table.partitions.find(({ kind }) => kind === "extended");
  const usableStart = table.firstUsableLba * table.sectorSize;
  const usableEnd = (table.lastUsableLba + 1) * table.sectorSize;
  for (const { number, offset, size, kind } of table.partitions) {
    const end = offset + size;
    if (end > table.size)
      problems.push({
        code: "past-end",
        level: "damage",
        message: `partition ${number} ends at byte ${end}, the disk has ${table.size} (${formatSize(table.size)})`,
      });
    else if (offset < usableStart || end > usableEnd)
      problems.push({
        code: "outside-usable",
        level: "damage",
        message: `partition ${number} is outside the usable bytes ${usableStart}..${usableEnd}`,
      });
    if (kind === "logical" && extended && (offset < extended.offset || end > extended.offset + extended.size))
      problems.push({
        code: "extended",
        level: "damage",
        message: `logical partition ${number} is not within the extended partition ${extended.number}`,
      });
  }
  return problems;
}

function sameGuids({ partitions }: PartitionTable): TableProblem[] {
  const first = new Map<string, number>();
  const problems: TableProblem[] = [];
  for (const { number, uuid } of partitions) {
    const other = uuid === null ? undefined : first.get(uuid);
    if (other !== undefined)
      problems.push({
        code: "same-guid",
        level: "damage",
        message: `partitions ${other} and ${number} have the same GUID ${uuid}`,
      });
    else if (uuid !== null) first.set(uuid, number);
  }
  return problems;
}

function beyondFifteen({ partitions }: PartitionTable): TableProblem[] {
  const hidden = partitions.filter(({ number }) => number > MAX_PARTITIONS).map(({ number }) => number);
  if (hidden.length === 0) return [];
  const which = hidden.length === 1 ? `partition ${hidden[0]}` : `partitions ${hidden.join(" ")}`;
  return [
    {
      code: "more-than-fifteen",
      level: "note",
      message: `a guest would not see ${which}: a virtual disk has at most fifteen`,
    },
  ];
}
