/** A whole layout at once: the disk's partitions become those that a script lists. Applying what a disk has changes nothing. */

import { alignDown, alignUp } from "../../bytes/align.js";
import { isGuid } from "../../bytes/guid.js";
import { formatSize } from "../../bytes/size.js";
import { ALIGNMENT, freeSpace } from "../free-space.js";
import { ENTRY_SIZE, MAX_ARRAY_BYTES } from "../gpt/layout.js";
import { EXTENDED_TYPES } from "../mbr/layout.js";
import { FIRST_LOGICAL } from "../mbr/read.js";
import { makePlan, type TablePlan, usageError } from "../plan.js";
import { findTableFormat } from "../registry.js";
import type { LayoutLine, TableLayout } from "../script/layout.js";
import { type GptTable, MAX_PARTITIONS, type PartitionTable, type SectorSize } from "../table.js";
import { resolveType, typeName } from "../type-codes.js";
import { type AddRequest, addPartition } from "./add.js";
import { settle } from "./settle.js";

export interface ApplyTarget {
  /** The disk's label and bytes. */
  readonly label: string;
  readonly size: number;
}

/**
 * `before` is the disk's table or null. The layout's own label, identity and sector size win over the disk's.
 * Throws `NO_SPACE` or `DENIED` when a line cannot be had; then nothing is planned at all.
 */
export function planApply(
  disk: ApplyTarget,
  before: PartitionTable | null,
  layout: TableLayout,
  random: (size: number) => Uint8Array,
): TablePlan {
  const base = emptyLike(disk, before, layout, random);
  let table: PartitionTable = base;
  const lines = inOrder(layout.lines, base.label);
  for (const [i, line] of lines.entries())
    table = addLine(table, before, leaveRoom(table, line, lines.slice(i + 1)), random);
  const kept = before?.label === table.label ? keepUnknownBits(before, table) : table;
  return makePlan(before, kept, summarize(before, kept));
}

/** The table to fill: the disk's own, emptied, where label and sectors agree; else a new one. */
function emptyLike(
  disk: ApplyTarget,
  before: PartitionTable | null,
  layout: TableLayout,
  random: (size: number) => Uint8Array,
): PartitionTable {
  const format = findTableFormat(layout.label ?? before?.label ?? "gpt");
  if (!format)
    throw usageError(
      `Cannot apply a layout to ${disk.label}: its label is ${JSON.stringify(layout.label)}, allowed are gpt and dos`,
    );
  const sectorSize = checkSectorSize(disk, layout.sectorSize ?? before?.sectorSize ?? 512);
  const id = layout.id === undefined ? undefined : checkId(disk, format.label, layout.id);
  const same = before?.label === format.label && before.sectorSize === sectorSize;
  const empty = same
    ? { ...settle(before).table, id: id ?? before.id, partitions: [] }
    : format.empty({ device: disk.label, size: disk.size, sectorSize, id: id ?? format.newId(random) });
  return empty.label === "gpt" ? withUsable(withEntryCount(empty, layout), layout) : empty;
}

function checkSectorSize(disk: ApplyTarget, sectorSize: number): SectorSize {
  if (sectorSize === 512 || sectorSize === 4096) return sectorSize;
  throw usageError(
    `Cannot apply a layout to ${disk.label}: its sector size is ${sectorSize}, allowed are 512 and 4096`,
  );
}

function checkId(disk: ApplyTarget, label: PartitionTable["label"], id: string): string {
  if (label === "gpt" && isGuid(id)) return id.toUpperCase();
  if (label === "dos" && /^0x[0-9a-f]{1,8}$/i.test(id)) return `0x${id.slice(2).toLowerCase().padStart(8, "0")}`;
  throw usageError(
    `Cannot apply a layout to ${disk.label}: its id is ${JSON.stringify(id)}, allowed is ${label === "gpt" ? "a GUID" : "0x and eight hexadecimal digits"}`,
  );
}

/** An array of another length; usable space follows when it would be covered. */
function withEntryCount(table: GptTable, { entryCount }: TableLayout): GptTable {
  if (entryCount === undefined || entryCount === table.onDisk.entryCount) return table;
  const most = MAX_ARRAY_BYTES / ENTRY_SIZE;
  if (entryCount < 1 || entryCount > most)
    throw usageError(`Cannot apply a layout to ${table.device}: table-length is ${entryCount}, allowed 1..${most}`);
  const { onDisk, sectorSize } = table;
  const blocks = Math.ceil((entryCount * onDisk.entrySize) / sectorSize);
  const backupEntriesLba = onDisk.backupLba - blocks;
  return {
    ...table,
    firstUsableLba: Math.max(table.firstUsableLba, onDisk.entriesLba + blocks),
    lastUsableLba: Math.min(table.lastUsableLba, backupEntriesLba - 1),
    onDisk: { ...onDisk, entryCount, entries: new Uint8Array(entryCount * onDisk.entrySize), backupEntriesLba },
  };
}

/** `first-lba` and `last-lba` of the layout, within what the arrays leave. A `last-lba` of a larger disk gives way to this disk's own. */
function withUsable(table: GptTable, { firstLba, lastLba }: TableLayout): GptTable {
  const { onDisk, sectorSize } = table;
  const blocks = Math.ceil((onDisk.entryCount * onDisk.entrySize) / sectorSize);
  const least = onDisk.entriesLba + blocks;
  const most = onDisk.backupEntriesLba - 1;
  const firstUsableLba = firstLba ?? table.firstUsableLba;
  if (firstUsableLba < least || firstUsableLba > most)
    throw usageError(
      `Cannot apply a layout to ${table.device}: first-lba is ${firstUsableLba}, allowed ${least}..${most}`,
    );
  return { ...table, firstUsableLba, lastUsableLba: Math.min(lastLba ?? table.lastUsableLba, most) };
}

/** Fixed numbers first, so that lines without one do not take theirs; MBR: the extended partition before what it holds. */
function inOrder(lines: readonly LayoutLine[], label: PartitionTable["label"]): LayoutLine[] {
  if (label === "gpt")
    return [
      ...lines.filter(({ number }) => number !== undefined),
      ...lines.filter(({ number }) => number === undefined),
    ];
  const rank = (line: LayoutLine) => (line.number !== undefined && line.number >= FIRST_LOGICAL ? 1 : 0);
  return [...lines].sort((a, b) => rank(a) - rank(b) || (rank(a) === 1 ? a.number! - b.number! : 0));
}

/** The rest of the disk in the middle of a layout (`efi:512M,linux:*,swap:1G`) leaves room for the sizes that follow it. */
function leaveRoom(table: PartitionTable, line: LayoutLine, later: readonly LayoutLine[]): LayoutLine {
  const takesRest = line.start === undefined && (line.size ?? "all") === "all";
  if (!takesRest || later.length === 0 || table.label !== "gpt" || later.some(({ start }) => start !== undefined))
    return line;
  if (later.some(({ size }) => (size ?? "all") === "all"))
    throw usageError(
      `Cannot apply a layout to ${table.device}: more than one partition takes the rest, allowed is one`,
    );
  const reserved = later.reduce((sum, { size }) => sum + alignUp(size as number, ALIGNMENT), 0);
  const most = Math.max(
    ...freeSpace(table).map(({ offset, size }) => alignDown(offset + size, ALIGNMENT) - alignUp(offset, ALIGNMENT)),
  );
  // Too small for all of them: the line after this one says so, with what is free.
  return most > reserved ? { ...line, size: most - reserved } : line;
}

function addLine(
  table: PartitionTable,
  before: PartitionTable | null,
  line: LayoutLine,
  random: (size: number) => Uint8Array,
): PartitionTable {
  const uuid = line.uuid ?? keptUuid(before, table, line);
  const asBefore = before?.partitions.find(({ number, offset }) => number === line.number && offset === line.start);
  const request = {
    ...line,
    size: line.size ?? ("all" as const),
    ...(uuid === undefined ? {} : { uuid }),
    ...(asBefore ? { lastNumber: Math.max(MAX_PARTITIONS, asBefore.number) } : {}),
  };
  const { after } = addPartition(table, table.label === "dos" ? mbrRequest(table, line, request) : request, random);
  return after;
}

/** A line that is a partition of the disk as it is keeps that partition's identity. */
function keptUuid(
  before: PartitionTable | null,
  table: PartitionTable,
  { number, start }: LayoutLine,
): string | undefined {
  if (before?.label !== "gpt" || table.label !== "gpt" || number === undefined || start === undefined) return undefined;
  return before.partitions.find((other) => other.number === number && other.offset === start)?.uuid ?? undefined;
}

/** As in sfdisk, lines after an extended partition that is full, or all primary entries are taken, are logical ones. */
function mbrRequest(table: PartitionTable, line: LayoutLine, request: AddRequest): AddRequest {
  const type = resolveType("dos", line.type ?? "linux");
  const extended = table.partitions.find(({ kind }) => kind === "extended");
  const isExtended = EXTENDED_TYPES.includes(Number.parseInt(type, 16));
  const within =
    extended &&
    line.start !== undefined &&
    line.start >= extended.offset &&
    line.start < extended.offset + extended.size;
  const primaryFull = table.partitions.filter(({ kind }) => kind !== "logical").length === 4;
  const logical =
    !isExtended &&
    extended !== undefined &&
    (line.number === undefined ? within || line.start === undefined || primaryFull : line.number >= FIRST_LOGICAL);
  return { ...request, logical };
}

/** Attribute bits that no script can name stay with the partition that has them. */
function keepUnknownBits(before: PartitionTable, after: PartitionTable): PartitionTable {
  if (before.label !== "gpt" || after.label !== "gpt") return after;
  const partitions = after.partitions.map((partition) => {
    const old = before.partitions.find(({ number, uuid }) => number === partition.number && uuid === partition.uuid);
    return old ? { ...partition, attributes: partition.attributes | (old.attributes & RESERVED_BITS) } : partition;
  });
  return { ...after, partitions };
}

/** Bits 3 to 47 (UEFI 2.10, table 5.7). */
const RESERVED_BITS = ((1n << 48n) - 1n) & ~7n;

function summarize(before: PartitionTable | null, after: PartitionTable): string[] {
  const describe = (table: PartitionTable | null) =>
    table ? table.partitions.map(({ number, offset, size, type }) => `${number}@${offset}+${size}:${type}`) : [];
  const [old, now] = [describe(before), describe(after)];
  const sentences: string[] = [];
  if (before?.label !== after.label) sentences.push(`make a ${after.label} table, id ${after.id}`);
  else if (before.id !== after.id) sentences.push(`id ${before.id} becomes ${after.id}`);
  for (const [i, text] of old.entries())
    if (!now.includes(text)) sentences.push(`remove partition ${before!.partitions[i]!.number} as it was`);
  for (const [i, text] of now.entries()) {
    const { number, offset, size, type } = after.partitions[i]!;
    if (!old.includes(text))
      sentences.push(
        `partition ${number}: ${formatSize(size)} at ${formatSize(offset)}, ${typeName(after.label, type)}`,
      );
  }
  return sentences;
}
