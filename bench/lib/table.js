// Rows as an aligned table for the terminal, and as Markdown.
import { figure, isMet, targetText } from "./rows.js";

const HEAD = ["what", "ours", "peer", "", "ratio", "target", ""];
const RIGHT = new Set([1, 2, 4]);

export function cells(row) {
  const met = isMet(row);
  return [
    row.name,
    withUnit(row.ours, row.unit),
    withUnit(row.peer, row.unit),
    row.peerName,
    row.ratio === null ? "-" : `${figure(row.ratio)}x`,
    targetText(row),
    met === null ? "" : met ? "met" : "MISSED",
  ];
}

export function printTable(title, rows) {
  const lines = [HEAD, ...rows.map(cells)];
  const widths = HEAD.map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  const text = lines.map((line) =>
    line
      .map((cell, column) => (RIGHT.has(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column])))
      .join("  ")
      .trimEnd(),
  );
  const notes = rows.filter((row) => row.note).map((row) => `  ${row.name}: ${row.note}`);
  return [`\n${title}`, ...text, ...notes].join("\n");
}

export function markdownTable(rows) {
  const head = ["What", "xvdkit", "Peer", "Which peer", "Ratio", "Target", "Met"];
  const rule = head.map((_, column) => (RIGHT.has(column) ? "--:" : "---"));
  const body = rows.map((row) =>
    cells(row).map((cell, column) =>
      column === 6 ? (cell === "met" ? "yes" : cell === "" ? "" : "no") : cell.replaceAll("|", "\\|"),
    ),
  );
  return [head, rule, ...body].map((line) => `| ${line.join(" | ")} |`).join("\n");
}

function withUnit(value, unit) {
  return value === null ? "-" : `${figure(value)} ${unit}`;
}
