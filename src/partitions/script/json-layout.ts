/** The JSON of `xvd part list` or `sfdisk --json` as a layout: numbers count sectors. */
import { parseAttributes } from "../attributes.js";
import { usageError } from "../plan.js";
import type { LayoutLine, TableLayout } from "./layout.js";

type Json = Record<string, unknown>;

export function parseJsonLayout(text: string): TableLayout {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw bad((error as Error).message);
  }
  const table = isObject(document) ? document.partitiontable : undefined;
  if (!isObject(table)) throw bad("there is no object partitiontable");
  const { unit, partitions = [] } = table;
  if (unit !== undefined && unit !== "sectors") throw bad(`unit is ${JSON.stringify(unit)}, allowed is "sectors"`);
  if (!Array.isArray(partitions)) throw bad("partitions is no list");
  const sectorSize = count(table, "sectorsize") ?? 512;
  return {
    label: string(table, "label"),
    id: string(table, "id"),
    firstLba: count(table, "firstlba"),
    lastLba: count(table, "lastlba"),
    entryCount: count(table, "table-length"),
    sectorSize: table.sectorsize === undefined ? undefined : sectorSize,
    lines: partitions.map((partition) => parsePartition(partition, sectorSize)),
  };
}

function parsePartition(partition: unknown, sectorSize: number): LayoutLine {
  if (!isObject(partition)) throw bad("a partition is no object");
  const number = /(\d+)$/.exec(string(partition, "node") ?? "")?.[1];
  const [start, size, attrs] = [count(partition, "start"), count(partition, "size"), string(partition, "attrs")];
  const [type, uuid, name] = [string(partition, "type"), string(partition, "uuid"), string(partition, "name")];
  return {
    ...(number === undefined ? {} : { number: Number(number) }),
    ...(start === undefined ? {} : { start: bytes(start, sectorSize) }),
    ...(size === undefined ? {} : { size: bytes(size, sectorSize) }),
    ...(type === undefined ? {} : { type }),
    ...(uuid === undefined ? {} : { uuid }),
    ...(name === undefined ? {} : { name }),
    ...(attrs === undefined ? {} : { attributes: parseAttributes(attrs) }),
    ...(partition.bootable === true ? { bootable: true } : {}),
  };
}

function bytes(sectors: number, sectorSize: number): number {
  const value = sectors * sectorSize;
  if (!Number.isSafeInteger(value)) throw bad(`${sectors} sectors are more than 2^53-1 bytes`);
  return value;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function string(object: Json, key: string): string | undefined {
  const value = object[key];
  if (value === undefined || typeof value === "string") return value;
  throw bad(`${key} is ${JSON.stringify(value)}, allowed is text`);
}

/** sfdisk prints some numbers as text. */
function count(object: Json, key: string): number | undefined {
  const value = object[key];
  if (value === undefined) return undefined;
  const number = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value;
  if (typeof number === "number" && Number.isSafeInteger(number) && number >= 0) return number;
  throw bad(`${key} is ${JSON.stringify(value)}, allowed is a whole number`);
}

function bad(why: string): Error {
  return usageError(`Cannot read partition table JSON: ${why}`);
}
