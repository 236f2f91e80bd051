// docs/layouts.md: every binary structure that the code reads or writes, from the tables it does it with.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { page, table } from "./page.js";

const SRC = fileURLToPath(new URL("../../src", import.meta.url));
const DIST = fileURLToPath(new URL("../../dist", import.meta.url));

export async function layoutsPage() {
  const found = await exportedLayouts();
  const folders = [...new Set(found.map(({ file }) => file.split("/")[0]))];
  const parts = folders.flatMap((folder) => [
    `## ${folder}`,
    ...found.filter(({ file }) => file.startsWith(`${folder}/`)).map(structure),
  ]);
  return page("Binary structures", "the `layout()` tables in `src/`", [
    "Offsets and sizes are bytes. The same tables decode, encode and check; their fields touch and end at the structure's size.",
    ...parts,
  ]);
}

/** All tables that modules export, by file and then in the order of the file. */
async function exportedLayouts() {
  const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  const candidates = files.sort().filter((file) => definesLayouts(readFileSync(join(SRC, file), "utf8")));
  const found = [];
  for (const file of candidates) {
    const exports = await import(pathToFileURL(join(DIST, file.replace(/\.ts$/, ".js"))));
    const order = readFileSync(join(SRC, file), "utf8");
    const tables = Object.entries(exports).filter(([, value]) => isLayout(value));
    tables.sort(([a], [b]) => order.indexOf(` ${a} `) - order.indexOf(` ${b} `));
    found.push(...tables.map(([name, value]) => ({ file, exported: name, layout: value })));
  }
  return found;
}

/** Only modules that make tables are loaded: others may start threads or load native code. */
function definesLayouts(source) {
  return /import\s[^;]*\blayout\b[^;]*\/layout\.js"/.test(source);
}

function isLayout(value) {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof value.describe === "function" &&
    typeof value.spec === "string" &&
    "fields" in value
  );
}

function structure({ file, exported, layout }) {
  const endian = layout.endian === "le" ? "little-endian" : "big-endian";
  const rows = Object.entries(layout.fields).map(([name, field]) => [
    field.offset,
    field.type.size,
    `\`${name}\``,
    field.type.kind,
    field.doc,
  ]);
  return `### ${layout.name}\n\n${layout.size} bytes, ${endian}; ${layout.spec}. \`${exported}\` in \`src/${file}\`.\n\n${table(["Byte", "Size", "Field", "Type", "Meaning"], rows)}`;
}
