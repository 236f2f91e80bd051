/**
 * The same partitions in another kind of table, or in sectors of another size. Every partition keeps its bytes: where that cannot
 * be, the conversion is refused with the reason, and nothing is written.
 */
import { randomGuid } from "../../bytes/guid.js";
import { DiskError } from "../../errors.js";
import { LEGACY_BIOS_BOOTABLE } from "../gpt/read.js";
import { FIRST_LOGICAL } from "../mbr/read.js";
import { makePlan, type TablePlan, usageError } from "../plan.js";
import { findTableFormat } from "../registry.js";
import {
  type GptTable,
  MAX_PARTITIONS,
  type MbrTable,
  type Partition,
  type PartitionTable,
  type SectorSize,
} from "../table.js";
import { translateType, typeName } from "../type-codes.js";

export interface ConvertRequest {
  /** Default: the kind that the table has. */
  readonly label?: PartitionTable["label"] | undefined;
  /** Default: the sector size that the table has. */
  readonly sectorSize?: SectorSize | undefined;
}

const LINUX_DATA = { gpt: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", dos: "83" } as const;

export function planConvert(
  before: PartitionTable,
  request: ConvertRequest,
  random: (size: number) => Uint8Array,
): TablePlan {
  const label = request.label ?? before.label;
  const sectorSize = request.sectorSize ?? before.sectorSize;
  if (label === before.label && sectorSize === before.sectorSize)
    return makePlan(before, before, [`it is ${label} with sectors of ${sectorSize} already`]);
  if (label !== before.label && sectorSize !== before.sectorSize)
    throw usageError(
      `Cannot convert ${before.device}: another label and another sector size are asked for, allowed is one at a time`,
    );
  const beyond = before.problems.filter(({ code }) => code === "overlap" || code === "past-end");
  if (beyond[0]) throw refuse(before, label, beyond[0].message);
  const hybrid = before.problems.find(({ code }) => code === "hybrid-mbr");
  if (hybrid) throw refuse(before, label, `${hybrid.message}, which would be lost`);
  const format = findTableFormat(label)!;
  const id = label === before.label ? before.id : format.newId(random);
  const empty = format.empty({ device: before.device, size: before.size, sectorSize, id });
  const { partitions, summary } =
    label === before.label
      ? { partitions: before.partitions, summary: [] }
      : label === "gpt"
        ? toGpt(before as MbrTable, random)
        : toMbr(before as GptTable);
  checkPlaces(empty, partitions);
  const after = withPartitions(empty, partitions);
  const what =
    label === before.label
      ? `sectors of ${before.sectorSize} become ${sectorSize} bytes`
      : `${before.label} becomes ${label}, id ${id}`;
  return makePlan(before, after, [what, ...summary, ...ambiguity(after)]);
}

function withPartitions(empty: PartitionTable, partitions: readonly Partition[]): PartitionTable {
  return { ...empty, partitions } as PartitionTable;
}

/** An MBR says nowhere how large its sectors are. */
function ambiguity({ label, sectorSize }: PartitionTable): string[] {
  return label === "dos" && sectorSize !== 512
    ? ["an MBR does not record its sector size: name it with --sector-size from now on"]
    : [];
}

/** Every partition in whole sectors of the new table, within its usable space. */
function checkPlaces(table: PartitionTable, partitions: readonly Partition[]): void {
  const start = table.firstUsableLba * table.sectorSize;
  const end = (table.lastUsableLba + 1) * table.sectorSize;
  for (const { number, offset, size, kind } of partitions) {
    if (offset % table.sectorSize !== 0 || size % table.sectorSize !== 0)
      throw refuse(
        table,
        table.label,
        `partition ${number} at ${offset} with ${size} bytes does not lie in whole sectors of ${table.sectorSize}`,
      );
    if (kind !== "extended" && (offset < start || offset + size > end))
      throw refuse(
        table,
        table.label,
        `partition ${number} has bytes ${offset}..${offset + size}, the new table needs it within ${start}..${end}`,
      );
  }
}

function refuse({ device }: PartitionTable, label: string, found: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot convert ${device} to ${label === "dos" ? "mbr" : label}: ${found}`);
}

function toGpt(before: MbrTable, random: (size: number) => Uint8Array): { partitions: Partition[]; summary: string[] } {
  const summary: string[] = [];
  const partitions = before.partitions.flatMap((partition): Partition[] => {
    if (partition.kind === "extended") return [];
    const type = translateType("gpt", partition.type);
    if (type === null)
      summary.push(
        `partition ${partition.number}: ${typeName("dos", partition.type)} has no GPT type, it becomes Linux filesystem`,
      );
    const attributes = partition.bootable ? LEGACY_BIOS_BOOTABLE : 0n;
    return [{ ...partition, type: type ?? LINUX_DATA.gpt, uuid: randomGuid(random), attributes, kind: "primary" }];
  });
  return { partitions, summary };
}

function toMbr(before: GptTable): { partitions: Partition[]; summary: string[] } {
  const tooMany = before.partitions.find(({ number }) => number > MAX_PARTITIONS);
  if (tooMany) throw refuse(before, "mbr", `partition ${tooMany.number} is beyond the fifteen`);
  const summary: string[] = [];
  const translated = before.partitions.map((partition): Partition => {
    const type = translateType("dos", partition.type);
    if (type === null)
      summary.push(
        `partition ${partition.number}: ${typeName("gpt", partition.type)} has no MBR type, it becomes Linux`,
      );
    if (partition.name) summary.push(`partition ${partition.number} loses its name ${JSON.stringify(partition.name)}`);
    return { ...partition, type: type ?? LINUX_DATA.dos, uuid: null, name: "", attributes: 0n, kind: "primary" };
  });
  const active = translated.findIndex(({ bootable }) => bootable);
  const flagged = translated.map((partition, i) => ({ ...partition, bootable: i === active }));
  const partitions =
    flagged.length <= 4 && flagged.every(({ number }) => number < FIRST_LOGICAL)
      ? flagged
      : withLogical(before, flagged);
  for (const [i, { number }] of flagged.entries()) {
    const now = partitions.find(({ offset, kind }) => offset === flagged[i]!.offset && kind !== "extended")!;
    if (now.number !== number) summary.push(`partition ${number} becomes ${now.number}`);
  }
  return { partitions: [...partitions].sort((a, b) => a.number - b.number), summary };
}

/**
 * Which ones become logical: a run of neighbours, so that one extended partition holds them and nothing else, with a free sector
 * before each for its EBR, and at most three left over. Of the possible runs the one that renumbers least.
 */
function withLogical(before: GptTable, partitions: readonly Partition[]): Partition[] {
  const sorted = [...partitions].sort((a, b) => a.offset - b.offset);
  let best: { partitions: Partition[]; renumbered: number } | undefined;
  for (let from = 0; from < sorted.length; from++) {
    for (let to = from; to < sorted.length; to++) {
      if (sorted.length - (to - from + 1) > 3 || !hasRoomForEbrs(before, sorted, from, to)) continue;
      const result = divide(before, sorted, from, to);
      const renumbered = result.filter(
        (now) =>
          now.kind !== "extended" && !partitions.some((old) => old.offset === now.offset && old.number === now.number),
      ).length;
      if (!best || renumbered < best.renumbered) best = { partitions: result, renumbered };
    }
  }
  if (best) return best.partitions;
  const reason =
    "an MBR has four primary entries; more need an extended partition around neighbours with a free sector before each of them";
  throw refuse(before, "mbr", `its ${partitions.length} partitions leave no such place, ${reason}`);
}

/** The sector that holds partition i's EBR: right before it, or a mebibyte before it where that is free. */
function ebrPlace(table: GptTable, sorted: readonly Partition[], i: number): number | null {
  // The GPT itself must stay whole until the MBR counts.
  const previousEnd = i === 0 ? table.firstUsableLba * table.sectorSize : sorted[i - 1]!.offset + sorted[i - 1]!.size;
  const { offset } = sorted[i]!;
  if (offset - previousEnd < table.sectorSize) return null;
  return Math.max(previousEnd, offset - (1 << 20));
}

function hasRoomForEbrs(table: GptTable, sorted: readonly Partition[], from: number, to: number): boolean {
  for (let i = from; i <= to; i++) if (ebrPlace(table, sorted, i) === null) return false;
  return true;
}

/** Logical numbers follow the old numbers; primaries keep theirs where they can. */
function divide(table: GptTable, sorted: readonly Partition[], from: number, to: number): Partition[] {
  const run = sorted.slice(from, to + 1);
  const outside = sorted.filter((_, i) => i < from || i > to);
  const first = ebrPlace(table, sorted, from)!;
  const chain = [run[0]!, ...run.slice(1).sort((a, b) => a.number - b.number)];
  const logical = chain.map(
    (partition, i): Partition => ({ ...partition, number: FIRST_LOGICAL + i, kind: "logical" }),
  );
  const free = [1, 2, 3, 4].filter((number) => !outside.some((other) => other.number === number));
  const primary = outside.map((partition) =>
    partition.number < FIRST_LOGICAL ? partition : { ...partition, number: free.shift()! },
  );
  const extended: Partition = {
    number: free.shift()!,
    offset: first,
    size: run[run.length - 1]!.offset + run[run.length - 1]!.size - first,
    type: "5",
    uuid: null,
    name: "",
    attributes: 0n,
    bootable: false,
    kind: "extended",
  };
  return [...primary, extended, ...logical];
}
