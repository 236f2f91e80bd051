/** A report's table as text or JSON, in LVM2's shapes. */
import type { Table } from "./engine.js";

export interface TextOptions {
  readonly headings: boolean;
  readonly separator: string | null;
  /** Columns as wide as their widest cell. */
  readonly aligned: boolean;
}

/** Two blanks before each line, as LVM2 does. */
export function tableLines({ columns, rows }: Table, { headings, separator, aligned }: TextOptions): string[] {
  const head = headings && rows.length > 0 ? [columns.map(({ heading }) => heading)] : [];
  const widths = columns.map((_, i) => [...head, ...rows].reduce((most, row) => Math.max(most, row[i]!.length), 0));
  const line = (row: readonly string[], right: boolean) => {
    const cell = (text: string, i: number) =>
      !aligned ? text : right && columns[i]!.right ? text.padStart(widths[i]!) : text.padEnd(widths[i]!);
    return `  ${row.map(cell).join(separator ?? " ")}`;
  };
  return [...head.map((row) => line(row, false)), ...rows.map((row) => line(row, true))];
}

/** The document of `--reportformat json`, in LVM2's own layout: scripts compare it. */
export function tableJson({ name, columns, rows }: Table): string {
  const object = (row: readonly string[]) =>
    `{${columns.map((column, i) => `${JSON.stringify(column.name)}:${JSON.stringify(row[i])}`).join(", ")}}`;
  const body = rows.map((row) => `${" ".repeat(18)}${object(row)}`).join(",\n");
  return [
    "  {",
    '      "report": [',
    "          {",
    `              ${JSON.stringify(name)}: [`,
    ...(rows.length > 0 ? [body] : []),
    "              ]",
    "          }",
    "      ]",
    "  }",
  ].join("\n");
}
