/** A new partition: its number, its place, its identity. */
import { alignDown } from "../../bytes/align.js";
import { isGuid, randomGuid } from "../../bytes/guid.js";
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import { type FreeRun, freeLogicalSpace, freeSpace, place } from "../free-space.js";
import { NAME_UNITS } from "../gpt/layout.js";
import { LEGACY_BIOS_BOOTABLE } from "../gpt/read.js";
import { EXTENDED_TYPES } from "../mbr/layout.js";
import { FIRST_LOGICAL } from "../mbr/read.js";
import { makePlan, type TablePlan, usageError } from "../plan.js";
import { type GptTable, MAX_PARTITIONS, type MbrTable, type Partition, type PartitionTable } from "../table.js";
import { resolveType, typeName } from "../type-codes.js";
import { settle } from "./settle.js";

export interface AddRequest {
  readonly number?: number | undefined;
  /** Bytes; default: the first aligned place that fits. */
  readonly start?: number | undefined;
  /** Bytes; default and "all": to the end of the free space. */
  readonly size?: number | "all" | undefined;
  /** Alias, GUID or MBR byte; default `linux`. */
  readonly type?: string | undefined;
  readonly name?: string | undefined;
  readonly uuid?: string | undefined;
  readonly attributes?: bigint | undefined;
  readonly bootable?: boolean | undefined;
  /** MBR: in the extended partition, which is made over the largest free space when there is none. */
  readonly logical?: boolean | undefined;
  /** The highest number allowed; default 15. A foreign disk with more is rewritten as it is. */
  readonly lastNumber?: number | undefined;
}

/** Throws `NO_SPACE` when it does not fit, `DENIED` for a sixteenth partition or a number in use. */
export function planAdd(before: PartitionTable, request: AddRequest, random: (size: number) => Uint8Array): TablePlan {
  const { after, summary } = addPartition(before, request, random);
  return makePlan(before, after, summary);
}

/** The table with one more partition; for plans that make several changes. */
export function addPartition(
  before: PartitionTable,
  request: AddRequest,
  random: (size: number) => Uint8Array,
): { after: PartitionTable; summary: string[]; added: Partition } {
  const { table, summary } = settle(before);
  if (table.label === "gpt") {
    const added = newGptPartition(table, request, random);
    return { after: withPartition(table, added), summary: [...summary, sentence(table, added)], added };
  }
  const isLogical = request.logical || (request.number ?? 0) >= FIRST_LOGICAL;
  if (!isLogical) {
    const added = newPrimary(table, request);
    return { after: withPartition(table, added), summary: [sentence(table, added)], added };
  }
  const based = withExtended(table);
  const added = newLogical(based.table, request);
  return { after: withPartition(based.table, added), summary: [...based.summary, sentence(table, added)], added };
}

function withPartition<T extends PartitionTable>(table: T, added: Partition): T {
  return { ...table, partitions: [...table.partitions, added].sort((a, b) => a.number - b.number) };
}

function sentence(table: PartitionTable, { number, offset, size, type, kind }: Partition): string {
  const what = kind === "primary" ? "" : `${kind} `;
  return `add ${what}partition ${number}: ${formatSize(size)} at ${formatSize(offset)}, ${typeName(table.label, type)}`;
}

const purpose = (table: PartitionTable) => `add a partition to ${table.device}`;

function newGptPartition(table: GptTable, request: AddRequest, random: (size: number) => Uint8Array): Partition {
  if (request.logical)
    throw usageError(`Cannot ${purpose(table)}: a GPT has no logical partitions, --logical is for MBR`);
  const number = chooseNumber(
    table,
    request.number,
    Math.min(request.lastNumber ?? MAX_PARTITIONS, table.onDisk.entryCount),
  );
  const run = place(freeSpace(table), {
    start: request.start,
    size: request.size ?? "all",
    sectorSize: table.sectorSize,
    purpose: purpose(table),
  });
  const attributes = (request.attributes ?? 0n) | (request.bootable ? LEGACY_BIOS_BOOTABLE : 0n);
  return {
    number,
    ...run,
    type: resolveType("gpt", request.type ?? "linux"),
    uuid: request.uuid === undefined ? randomGuid(random) : checkUuid(table, request.uuid),
    name: checkName(table, request.name ?? ""),
    attributes,
    bootable: (attributes & LEGACY_BIOS_BOOTABLE) !== 0n,
    kind: "primary",
  };
}

/** The lowest free number up to `last`, or the wanted one. */
function chooseNumber(table: PartitionTable, wanted: number | undefined, last: number): number {
  const taken = new Set(table.partitions.map(({ number }) => number));
  if (wanted !== undefined) {
    if (!Number.isInteger(wanted) || wanted < 1 || wanted > last)
      throw beyondFifteen(table, `number ${wanted} is wanted`, last);
    if (taken.has(wanted))
      throw new DiskError("DENIED", `Cannot ${purpose(table)}: number ${wanted} is in use`, {
        details: { number: wanted },
      });
    return wanted;
  }
  for (let number = 1; number <= last; number++) if (!taken.has(number)) return number;
  throw beyondFifteen(table, "all numbers are in use", last);
}

function beyondFifteen(table: PartitionTable, found: string, last: number): DiskError {
  const limit = last === MAX_PARTITIONS ? "at most fifteen partitions, as xvda1 to xvda15" : `${last} entries`;
  return new DiskError("DENIED", `Cannot ${purpose(table)}: ${found}, allowed are 1..${last} (a disk has ${limit})`, {
    details: { limit: last },
  });
}

export function checkUuid(table: PartitionTable, uuid: string): string {
  if (!isGuid(uuid))
    throw usageError(
      `Cannot ${purpose(table)}: UUID ${JSON.stringify(uuid)} is none, the form is 8-4-4-4-12 hexadecimal digits`,
    );
  const upper = uuid.toUpperCase();
  const other = table.partitions.find((partition) => partition.uuid === upper);
  if (other)
    throw new DiskError("DENIED", `Cannot ${purpose(table)}: UUID ${upper} is in use by partition ${other.number}`, {
      details: { uuid: upper },
    });
  return upper;
}

export function checkName(table: PartitionTable, name: string): string {
  if (name.length > NAME_UNITS || name.includes("\0"))
    throw usageError(
      `Cannot name a partition of ${table.device}: ${JSON.stringify(name)} has ${name.length} UTF-16 units, allowed up to ${NAME_UNITS} without zeros`,
    );
  return name;
}

const MBR_FIELDS = { uuid: null, name: "", attributes: 0n } as const;

function rejectGptFields(table: MbrTable, { name, uuid, attributes }: AddRequest): void {
  const given = name ? "a name" : uuid ? "a UUID" : attributes ? "attributes" : undefined;
  if (given) throw usageError(`Cannot ${purpose(table)}: ${given} is asked for, an MBR has no place for it; GPT has`);
}

function newPrimary(table: MbrTable, request: AddRequest): Partition {
  rejectGptFields(table, request);
  const taken = table.partitions.filter(({ kind }) => kind !== "logical").length;
  if (request.number === undefined && taken >= 4)
    throw new DiskError(
      "DENIED",
      `Cannot ${purpose(table)}: all four primary entries are in use, --logical adds to the extended partition`,
    );
  const number = chooseNumber(table, request.number, 4);
  const type = resolveType("dos", request.type ?? "linux");
  const run = place(freeSpace(table), {
    start: request.start,
    size: request.size ?? "all",
    sectorSize: table.sectorSize,
    purpose: purpose(table),
  });
  const kind = EXTENDED_TYPES.includes(Number.parseInt(type, 16)) ? "extended" : "primary";
  if (kind === "extended" && table.partitions.some((partition) => partition.kind === "extended"))
    throw new DiskError("DENIED", `Cannot ${purpose(table)}: it has an extended partition, allowed is one`);
  return { number, ...run, type, ...MBR_FIELDS, bootable: request.bootable ?? false, kind };
}

/** The table with an extended partition: the one it has, or a new one over the largest free space. */
function withExtended(table: MbrTable): { table: MbrTable; summary: string[] } {
  if (table.partitions.some(({ kind }) => kind === "extended")) return { table, summary: [] };
  const extended = newPrimary(table, { type: "extended", size: "all" });
  return { table: withPartition(table, extended), summary: [sentence(table, extended)] };
}

function newLogical(table: MbrTable, request: AddRequest): Partition {
  rejectGptFields(table, request);
  const number = FIRST_LOGICAL + table.partitions.filter(({ kind }) => kind === "logical").length;
  const last = request.lastNumber ?? MAX_PARTITIONS;
  if (number > last) throw beyondFifteen(table, "all numbers are in use", last);
  if (request.number !== undefined && request.number > last)
    throw beyondFifteen(table, `number ${request.number} is wanted`, last);
  if (request.number !== undefined && request.number !== number)
    throw new DiskError(
      "DENIED",
      `Cannot ${purpose(table)}: number ${request.number} is wanted, the next logical partition is ${number}`,
      { details: { number } },
    );
  const type = resolveType("dos", request.type ?? "linux");
  if (EXTENDED_TYPES.includes(Number.parseInt(type, 16)))
    throw usageError(`Cannot ${purpose(table)}: a logical partition cannot be an extended one`);
  const runs = logicalRuns(table);
  const run = place(runs, {
    start: request.start,
    size: request.size ?? "all",
    sectorSize: table.sectorSize,
    purpose: purpose(table),
  });
  return { number, ...run, type, ...MBR_FIELDS, bootable: request.bootable ?? false, kind: "logical" };
}

/** Free runs within the extended partition without the sector that a new EBR takes; the first one has its own place. */
function logicalRuns(table: MbrTable): FreeRun[] {
  const { sectorSize } = table;
  const isFirst = !table.partitions.some(({ kind }) => kind === "logical");
  return freeLogicalSpace(table).flatMap(({ offset, size }) => {
    const end = alignDown(offset + size, sectorSize);
    const start = isFirst ? offset : offset + sectorSize;
    return end > start ? [{ offset: start, size: end - start }] : [];
  });
}
