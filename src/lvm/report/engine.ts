/**
 * Reports: tables of fields over rows, chosen, selected, sorted and printed as LVM2 does (lvmreport(7)).
 * A field is one entry: name, heading, kind and how to get its value from a row. What is shown is the same in text and JSON.
 */
import { DiskError } from "../../errors.js";
import { printSize, type Units } from "./units.js";

export type FieldKind = "text" | "number" | "size" | "list" | "percent";

/** What a getter returns: bytes for sizes; null for nothing to tell. */
export type FieldValue = string | number | readonly string[] | null;

export interface Field<Row> {
  /** With its prefix, as LVM2's JSON has it. */
  readonly name: string;
  readonly heading: string;
  readonly kind: FieldKind;
  get(row: Row): FieldValue;
  /** How a list is joined; default a comma. */
  readonly join?: string;
}

export interface Report<Row> {
  /** The key of the rows in JSON: lv, vg, pv, seg, pvseg. */
  readonly name: string;
  readonly fields: readonly Field<Row>[];
  readonly columns: readonly string[];
  /** Names of fields, `-` before one for descending. */
  readonly sort: readonly string[];
  /** Prefixes of field names that may be left out. */
  readonly prefixes: readonly string[];
}

export interface ReportOptions {
  /** `-o`: `a,b` replaces, `+a` adds, `-a` takes away; several in order. */
  readonly columns: readonly string[];
  readonly sort?: string;
  readonly select?: (row: Cells) => boolean;
  readonly units: Units;
}

/** The values of one row by the field's name. */
export type Cells = (name: string) => { readonly kind: FieldKind; readonly value: FieldValue } | undefined;

export interface Table {
  readonly name: string;
  readonly columns: readonly { readonly name: string; readonly heading: string; readonly right: boolean }[];
  readonly rows: readonly (readonly string[])[];
}

export function makeTable<Row>(report: Report<Row>, rows: readonly Row[], options: ReportOptions): Table {
  const columns = chooseColumns(report, options.columns);
  const keys = sortKeys(report, options.sort);
  const selected = options.select ? rows.filter((row) => options.select!(cellsOf(report, row))) : [...rows];
  const decorated = selected.map((row) => ({ row, values: keys.map(({ field }) => field.get(row)) }));
  decorated.sort((a, b) => compareRows(a.values, b.values, keys));
  return {
    name: report.name,
    columns: columns.map(({ name, heading, kind }) => ({ name, heading, right: kind === "number" || kind === "size" })),
    rows: decorated.map(({ row }) => columns.map((field) => printValue(field, field.get(row), options.units))),
  };
}

export function cellsOf<Row>(report: Report<Row>, row: Row): Cells {
  return (name) => {
    const field = findField(report, name);
    return field && { kind: field.kind, value: field.get(row) };
  };
}

/** A field by its name, its prefix given or not. */
export function findField<Row>({ fields, prefixes }: Report<Row>, name: string): Field<Row> | undefined {
  const names = [name, ...prefixes.map((prefix) => `${prefix}${name}`)];
  return names.map((wanted) => fields.find((field) => field.name === wanted)).find((field) => field !== undefined);
}

function chooseColumns<Row>(report: Report<Row>, given: readonly string[]): Field<Row>[] {
  let chosen = [...report.columns];
  for (const list of given) {
    const [, sign = "", text = ""] = /^([+#-]?)(.*)$/s.exec(list)!;
    const names = text
      .split(",")
      .filter(Boolean)
      .flatMap((name) => expandName(report, name));
    if (sign === "+") chosen = [...chosen, ...names];
    else if (sign === "-") chosen = chosen.filter((name) => !names.includes(name));
    else chosen = names;
  }
  return chosen.map((name) => report.fields.find((field) => field.name === name)!);
}

/** `lv_all`, `all` and single names. */
function expandName<Row>(report: Report<Row>, name: string): string[] {
  const names = report.fields.map((field) => field.name);
  if (name === "all" || report.prefixes.some((prefix) => name === `${prefix}all`)) return names;
  const field = findField(report, name);
  if (field) return [field.name];
  throw unknownField(report, name);
}

function unknownField<Row>({ fields }: Report<Row>, name: string): DiskError {
  return new DiskError(
    "UNSUPPORTED",
    `Unrecognised field: ${name}, allowed ${fields.map((field) => field.name).join(" ")}`,
    {
      details: { usage: true, field: name },
    },
  );
}

interface SortKey<Row> {
  readonly field: Field<Row>;
  readonly down: boolean;
}

function sortKeys<Row>(report: Report<Row>, given: string | undefined): SortKey<Row>[] {
  const names = given === undefined ? report.sort : given.split(",").filter(Boolean);
  return names.map((text) => {
    const name = text.replace(/^[+-]/, "");
    const field = findField(report, name);
    if (!field) throw unknownField(report, name);
    return { field, down: text.startsWith("-") };
  });
}

function compareRows<Row>(a: readonly FieldValue[], b: readonly FieldValue[], keys: readonly SortKey<Row>[]): number {
  for (const [i, { field, down }] of keys.entries()) {
    const order = compareValues(field.kind, a[i]!, b[i]!);
    if (order !== 0) return down ? -order : order;
  }
  return 0;
}

function compareValues(kind: FieldKind, a: FieldValue, b: FieldValue): number {
  if (isNumeric(kind)) return Number(a ?? -1) - Number(b ?? -1);
  const [left, right] = [sortText(a), sortText(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

export function isNumeric(kind: FieldKind): boolean {
  return kind === "number" || kind === "size" || kind === "percent";
}

/** Brackets around the names of hidden volumes do not count. */
function sortText(value: FieldValue): string {
  const text = String(value ?? "");
  return text.includes("[") ? text.replaceAll(/[[\]]/g, "") : text;
}

function printValue<Row>({ kind, join = "," }: Field<Row>, value: FieldValue, units: Units): string {
  if (value === null) return "";
  if (kind === "size") return printSize(value as number, units);
  if (kind === "percent") return printPercent(value as number);
  return Array.isArray(value) ? value.join(join) : String(value);
}

/** Two digits; what is not all or nothing is never shown as that. */
function printPercent(value: number): string {
  return (value <= 0 || value >= 100 ? value : Math.min(99.99, Math.max(0.01, value))).toFixed(2);
}
