/** The result of a command, on stdout. What people read is made fit for a terminal here: it holds names and labels from disks. */
import { printable, textWidth } from "../bytes/printable.js";

/** One JSON document. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** One JSON document, or lines for people. */
export function printResult(json: boolean | undefined, document: unknown, lines: () => readonly string[]): void {
  if (json) printJson(document);
  else printLines(lines());
}

export function printLines(lines: readonly string[]): void {
  if (lines.length > 0) process.stdout.write(`${lines.map(printable).join("\n")}\n`);
}

/** Rows in columns, two blanks between them; columns in `right` (numbers) are aligned to the right. */
export function columns(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const shown = rows.map((row) => row.map(printable));
  const widths: number[] = [];
  for (const row of shown) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, textWidth(cell));
  const pad = (cell: string, i: number) => {
    const blanks = " ".repeat(widths[i]! - textWidth(cell));
    return right.includes(i) ? blanks + cell : cell + blanks;
  };
  return shown.map((row) => row.map(pad).join("  ").trimEnd());
}

/** A warning or remark for people; stderr, so that it never gets between the lines of a result. */
export function remark(text: string): void {
  process.stderr.write(`${printable(text)}\n`);
}
