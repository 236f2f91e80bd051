/** Tree to text, in LVM2's two forms: on disk without indentation, in backup files with tabs. Values of a list stand on one line. */
import type { ConfigValue, Entry, Scalar } from "./tree.js";

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
      lines.push(`${margin}${entry.key} {`);
      printEntries(entry.entries, depth + 1, indent, lines);
      lines.push(`${margin}}`);
    }
  }
}

export function printValue(value: ConfigValue): string {
  return Array.isArray(value) ? `[${value.map(printScalar).join(", ")}]` : printScalar(value as Scalar);
}

function printScalar(value: Scalar): string {
  if (typeof value === "object") return value.float;
  return typeof value === "string" ? `"${value.replace(/["\\]/g, "\\$&")}"` : String(value);
}
