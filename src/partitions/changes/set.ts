/** What a partition is called and for: its name, type, identity and flags. Where it lies does not change. */
import { NAMED_ATTRIBUTES } from "../attributes.js";
import { LEGACY_BIOS_BOOTABLE } from "../gpt/read.js";
import { EXTENDED_TYPES } from "../mbr/layout.js";
import { makePlan, type TablePlan, usageError } from "../plan.js";
import { findPartition, type Partition, type PartitionTable } from "../table.js";
import { resolveType, typeName } from "../type-codes.js";
import { checkName, checkUuid } from "./add.js";
import { settle } from "./settle.js";

export interface SetRequest {
  readonly name?: string | undefined;
  /** Alias, GUID or MBR byte. */
  readonly type?: string | undefined;
  readonly uuid?: string | undefined;
  /** Replaces the bits that have names; the others stay. */
  readonly attributes?: bigint | undefined;
  /** MBR: makes it the active partition and the others inactive, or inactive. GPT: legacy BIOS bootable. */
  readonly bootable?: boolean | undefined;
}

export function planSet(before: PartitionTable, number: number, request: SetRequest): TablePlan {
  const { table, summary } = settle(before);
  const old = findPartition(table, number);
  const changed = table.label === "gpt" ? changeGpt(table, old, request) : changeMbr(table, old, request);
  const partitions = table.partitions.map((other) => {
    if (other === old) return changed;
    // One active primary partition: a BIOS boot sector refuses two. Logical ones are no concern of it.
    const sameSector = table.label === "dos" && other.kind !== "logical" && old.kind !== "logical";
    return sameSector && request.bootable && other.bootable ? { ...other, bootable: false } : other;
  });
  const sentences = differences(table, old, changed).map((text) => `partition ${number}: ${text}`);
  return makePlan(before, { ...table, partitions }, [...summary, ...sentences]);
}

function changeGpt(table: PartitionTable, old: Partition, request: SetRequest): Partition {
  const named = request.attributes ?? old.attributes & NAMED_ATTRIBUTES;
  let attributes = (old.attributes & ~NAMED_ATTRIBUTES) | named;
  if (request.bootable !== undefined)
    attributes = request.bootable ? attributes | LEGACY_BIOS_BOOTABLE : attributes & ~LEGACY_BIOS_BOOTABLE;
  const uuid = request.uuid?.toUpperCase() ?? old.uuid;
  return {
    ...old,
    name: request.name === undefined ? old.name : checkName(table, request.name),
    type: request.type === undefined ? old.type : resolveType("gpt", request.type),
    uuid: uuid === old.uuid ? uuid : checkUuid(table, uuid!),
    attributes,
    bootable: (attributes & LEGACY_BIOS_BOOTABLE) !== 0n,
  };
}

function changeMbr(table: PartitionTable, old: Partition, request: SetRequest): Partition {
  const given = request.name ? "a name" : request.uuid ? "a UUID" : request.attributes ? "attributes" : undefined;
  const subject = `Cannot change partition ${old.number} of ${table.device}`;
  if (given) throw usageError(`${subject}: ${given} is asked for, an MBR has no place for it; GPT has`);
  const type = request.type === undefined ? old.type : resolveType("dos", request.type);
  const isExtended = EXTENDED_TYPES.includes(Number.parseInt(type, 16));
  if (isExtended !== (old.kind === "extended"))
    throw usageError(`${subject}: type ${type} would make it ${isExtended ? "" : "no longer "}an extended partition`);
  return { ...old, type, bootable: request.bootable ?? old.bootable };
}

function differences(table: PartitionTable, old: Partition, now: Partition): string[] {
  const found: string[] = [];
  if (old.name !== now.name) found.push(`name ${JSON.stringify(old.name)} becomes ${JSON.stringify(now.name)}`);
  if (old.type !== now.type)
    found.push(`type ${typeName(table.label, old.type)} becomes ${typeName(table.label, now.type)}`);
  if (old.uuid !== now.uuid) found.push(`UUID ${old.uuid} becomes ${now.uuid}`);
  if (old.attributes !== now.attributes)
    found.push(`attributes 0x${old.attributes.toString(16)} become 0x${now.attributes.toString(16)}`);
  if (old.bootable !== now.bootable) found.push(now.bootable ? "becomes bootable" : "is no longer bootable");
  return found;
}
