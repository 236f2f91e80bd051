/** Tree to text, in LVM2's two forms: on disk without indentation, in backup files with tabs. Values of a list stand on one line. */
import type { ConfigValue, Entry, Scalar, Section } from "./tree.js";

export interface PrintOptions {
  /** Tabs for each level, as in backup files. */
  readonly indent?: boolean;
}

export function printConfig(entries: readonly Entry[], { indent = false }: PrintOptions = {}): string {
  const lines: string[] = [];
  printEntries(entries, 0, indent, lines);
  return `${lines.join("\n")}\n`;
}

function printEntries(entries: readonly Entry[], depth: number, indent: boolean, lines: string[]): void {
  const margin = indent ? "\t".repeat(depth) : "";
  for (const [i, entry] of entries.entries()) {
    if (entry.kind === "assign") {
      lines.push(`${margin}${entry.key} = ${printValue(entry.value)}`);
    } else {
      if (i > 0) lines.push("");
      lines.push(depth === VOLUMES ? printOnce(entry, indent) : printSection(entry, depth, indent));
    }
  }
}

function printSection({ key, entries }: Section, depth: number, indent: boolean): string {
  const margin = indent ? "\t".repeat(depth) : "";
  const lines = [`${margin}${key} {`];
  printEntries(entries, depth + 1, indent, lines);
  lines.push(`${margin}}`);
  return lines.join("\n");
}

/** The level of a group's volumes, of which a change leaves nearly all as they are: what was printed for the archive serves the backup. */
const VOLUMES = 2;
const printed = { plain: new WeakMap<Section, string>(), indented: new WeakMap<Section, string>() };

function printOnce(entry: Section, indent: boolean): string {
  const known = indent ? printed.indented : printed.plain;
  let text = known.get(entry);
  if (text === undefined) {
    text = printSection(entry, VOLUMES, indent);
    known.set(entry, text);
  }
  return text;
}

export function printValue(value: ConfigValue): string {
  return Array.isArray(value) ? `[${value.map(printScalar).join(", ")}]` : printScalar(value as Scalar);
}

function printScalar(value: Scalar): string {
  if (typeof value === "object") return value.float;
  if (typeof value !== "string") return String(value);
  return /["\\]/.test(value) ? `"${value.replace(/["\\]/g, "\\$&")}"` : `"${value}"`;
}
