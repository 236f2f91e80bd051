// npm run bench:readme: puts the table of results.json between README.md's two bench markers.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { markdownTable } from "./lib/table.js";

const README = new URL("../README.md", import.meta.url);
const RESULTS = new URL("results.json", import.meta.url);

export const BEGIN = "<!-- bench:begin (made by `npm run bench:readme` from bench/results.json) -->";
export const END = "<!-- bench:end -->";

/** The README's section: what was measured on, and all rows. */
export function renderResults(results) {
  const { machine, kernel, versions, date, modules } = results;
  const { node, ...peers } = versions;
  const peerText = Object.entries(peers).map(([name, version]) => `${name} ${version}`);
  const told = `Measured on ${machine.cores} cores (${machine.cpu}), ${machine.memoryGiB} GiB, ${kernel}, Node ${node}, with ${peerText.join(", ")}, on ${date.slice(0, 10)}. Medians of five rounds in turns, files in the page cache.`;
  const tables = Object.entries(modules).map(([name, { rows }]) => `**${name}**\n\n${markdownTable(rows)}`);
  return [told, ...tables].join("\n\n");
}

/** The README with its section replaced; throws when the markers are missing. */
export function withResults(readme, results) {
  const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`README.md needs the lines '${BEGIN}' and '${END}'`);
  return `${readme.slice(0, begin + BEGIN.length)}\n\n${renderResults(results)}\n\n${readme.slice(end)}`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const results = JSON.parse(readFileSync(RESULTS, "utf8"));
  writeFileSync(README, withResults(readFileSync(README, "utf8"), results));
}
