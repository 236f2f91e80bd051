/**
 * sfdisk's script format (sfdisk(8), "INPUT FORMATS"): header lines `key: value`, then one line per partition, either
 * named fields (`start=2048, size=100M, type=L, bootable`) or plain ones in order (`2048,100M,U,*`).
 * Plain numbers are sectors; numbers with a unit are bytes. Does not support CHS input.
 */
import { parseAttributes, printAttributes } from "../attributes.js";
import { ENTRY_COUNT } from "../gpt/layout.js";
import { usageError } from "../plan.js";
import { nodeName } from "../sfdisk-json.js";
import type { PartitionTable } from "../table.js";
import type { LayoutLine, TableLayout } from "./layout.js";
import { parseScriptSize } from "./sizes.js";

const HEADER = /^([a-z][a-z-]*):\s*(.*)$/;
const IGNORED_HEADERS = ["device", "unit", "grain"];

export function printScript(table: PartitionTable, disk: string): string {
  const { label, id, sectorSize } = table;
  const lines = [`label: ${label}`, `label-id: ${id}`, `device: ${disk}`, "unit: sectors"];
  if (table.label === "gpt") {
    lines.push(`first-lba: ${table.firstUsableLba}`, `last-lba: ${table.lastUsableLba}`);
    if (table.onDisk.entryCount !== ENTRY_COUNT) lines.push(`table-length: ${table.onDisk.entryCount}`);
  }
  lines.push(`sector-size: ${sectorSize}`, "");
  for (const partition of table.partitions) {
    const sectors = (bytes: number) => String(bytes / sectorSize).padStart(12);
    const fields = [`start=${sectors(partition.offset)}`, `size=${sectors(partition.size)}`, `type=${partition.type}`];
    if (partition.uuid !== null) fields.push(`uuid=${partition.uuid}`);
    if (partition.name) fields.push(`name="${escapeName(partition.name)}"`);
    const attrs = printAttributes(partition.attributes);
    if (attrs) fields.push(`attrs="${attrs}"`);
    if (label === "dos" && partition.bootable) fields.push("bootable");
    lines.push(`${nodeName(disk, partition.number)} : ${fields.join(", ")}`);
  }
  return `${lines.join("\n")}\n`;
}

/** Bytes that would end the name or the line are written as `\x22`, which sfdisk reads. */
function escapeName(name: string): string {
  return [...name]
    .map((char) => (char === '"' || char === "\\" || char < " " || char === "\x7f" ? hexEscape(char) : char))
    .join("");
}

function hexEscape(char: string): string {
  return `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
}

export function parseScript(text: string): TableLayout {
  const headers = new Map<string, string>();
  const rows: string[] = [];
  for (const raw of text.split("\n")) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const header = HEADER.exec(line);
    if (header && rows.length === 0 && !/^\S+\s*:\s*(start|size|type)\s*=/.test(line))
      headers.set(header[1]!, header[2]!);
    else rows.push(line);
  }
  const sectorSize = wholeNumber(headers.get("sector-size"), "sector-size") ?? 512;
  const known = [...IGNORED_HEADERS, "label", "label-id", "first-lba", "last-lba", "table-length", "sector-size"];
  for (const key of headers.keys())
    if (!known.includes(key)) throw bad(`${key}:`, `the header is not known, allowed are ${known.join(" ")}`);
  if (headers.has("unit") && headers.get("unit") !== "sectors")
    throw bad(`unit: ${headers.get("unit")}`, "allowed is sectors");
  return {
    label: headers.get("label"),
    id: headers.get("label-id"),
    firstLba: wholeNumber(headers.get("first-lba"), "first-lba"),
    lastLba: wholeNumber(headers.get("last-lba"), "last-lba"),
    entryCount: wholeNumber(headers.get("table-length"), "table-length"),
    sectorSize: headers.has("sector-size") ? sectorSize : undefined,
    lines: rows.map((row) => parseRow(row, sectorSize)),
  };
}

function wholeNumber(text: string | undefined, what: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw bad(`${what}: ${text}`, "allowed is a whole number");
  return Number(text);
}

function bad(row: string, why: string): Error {
  return usageError(`Cannot read sfdisk script line ${JSON.stringify(row)}: ${why}`);
}

/** `node : fields`, `3 : fields` or only fields. */
function parseRow(row: string, sectorSize: number): LayoutLine {
  const split = /^(?:(\S+)\s+:|(\d+)\s*:|(\S*\d):(?=\s))\s*(.*)$/.exec(row);
  const node = split?.[1] ?? split?.[2] ?? split?.[3];
  const rest = split ? split[4]! : row;
  const number = node === undefined ? undefined : Number(/(\d+)$/.exec(node)?.[1] ?? Number.NaN);
  if (number !== undefined && !(number > 0))
    throw bad(row, `${JSON.stringify(node)} does not end in a partition number`);
  const fields = splitFields(rest);
  const line = /^[a-z-]+\s*=/i.test(rest) ? namedFields(fields, row, sectorSize) : plainFields(fields, row, sectorSize);
  return number === undefined ? line : { ...line, number };
}

/** At commas and semicolons outside of quotes. Names from sfdisk 2.38 may hold unescaped commas within their quotes. */
function splitFields(text: string): string[] {
  return (text.match(/(?:"[^"]*"|[^,;"])+|(?<=[,;])(?=[,;]|$)|^(?=[,;])/g) ?? []).map((field) => field.trim());
}

function namedFields(fields: readonly string[], row: string, sectorSize: number): LayoutLine {
  let line: LayoutLine = {};
  for (const field of fields) {
    if (field === "") continue;
    const [, rawKey, rawValue] = /^([a-z-]+)\s*(?:=\s*(.*))?$/is.exec(field) ?? [];
    if (rawKey === undefined) throw bad(row, `${JSON.stringify(field)} is no field`);
    line = { ...line, ...namedField(rawKey.toLowerCase(), unquote(rawValue ?? ""), row, sectorSize) };
  }
  return line;
}

function namedField(key: string, value: string, row: string, sectorSize: number): LayoutLine {
  switch (key) {
    case "start":
      return value === "+" || value === "" ? {} : { start: parseScriptSize(value, sectorSize, row) };
    case "size":
      return value === "+" || value === "" ? { size: "all" } : { size: parseScriptSize(value, sectorSize, row) };
    case "type":
    case "id":
      return { type: value };
    case "uuid":
      return { uuid: value };
    case "name":
      return { name: value };
    case "attrs":
      return { attributes: parseAttributes(value) };
    case "bootable":
      return { bootable: true };
    default:
      throw bad(row, `field ${key} is not known, allowed are start size type uuid name attrs bootable`);
  }
}

function unquote(value: string): string {
  const inner = /^"(.*)"$/s.exec(value)?.[1];
  const text = inner ?? value;
  if (!/\\x[0-9a-f]{2}/i.test(text)) return text;
  // Escapes are bytes of UTF-8.
  const bytes = Buffer.from(
    text.replace(/\\x([0-9a-f]{2})/gi, (_, hex: string) => `\0${hex}`),
    "utf8",
  );
  const out: number[] = [];
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== 0) out.push(bytes[i]!);
    else {
      out.push(Number.parseInt(bytes.subarray(i + 1, i + 3).toString("latin1"), 16));
      i += 2;
    }
  }
  return Buffer.from(out).toString("utf8");
}

/** `start, size, type, bootable`, separated by commas or blanks. */
function plainFields(fields: readonly string[], row: string, sectorSize: number): LayoutLine {
  const words = fields.length === 1 ? fields[0]!.split(/\s+/) : fields;
  const [start = "", size = "", type = "", bootable = "", ...rest] = words;
  if (rest.some((word) => word !== "")) throw bad(row, "more than start, size, type and bootable are given");
  if (!["", "*", "-", "+"].includes(bootable))
    throw bad(row, `${JSON.stringify(bootable)} is no boot flag, allowed are * and -`);
  return {
    ...namedField("start", start, row, sectorSize),
    ...namedField("size", size, row, sectorSize),
    ...(type === "" || type === "-" ? {} : { type }),
    ...(bootable === "*" ? { bootable: true } : {}),
  };
}
