// npm run bench [name...]: runs the modules of this folder, prints ours beside the peer's, writes results.json.
// A module exports `name` and `async run(context)`, which returns rows (see lib/rows.js).
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { makeContext } from "./lib/context.js";
import { describeMachine, sameMachine } from "./lib/machine.js";
import { completeRow, isMet } from "./lib/rows.js";
import { printTable } from "./lib/table.js";

const HERE = new URL("./", import.meta.url);
const RESULTS = new URL("results.json", HERE);
const NOT_MODULES = new Set(["run.js", "readme-table.js"]);

process.exitCode = await main(process.argv.slice(2));

async function main(names) {
  const modules = await loadModules();
  const unknown = names.filter((name) => !modules.some((module) => module.name === name));
  if (unknown.length > 0) {
    console.error(
      `bench: there is no '${unknown.join("', '")}'; known: ${modules.map((module) => module.name).join(", ")}`,
    );
    return 2;
  }
  const wanted = modules.filter((module) => names.length === 0 || names.includes(module.name));
  const measured = {};
  let failures = 0;
  for (const module of wanted) {
    const result = await runModule(module);
    if (result) measured[module.name] = result;
    else failures++;
  }
  save(measured);
  printSummary(Object.values(measured).flatMap((result) => result.rows));
  return failures === 0 ? 0 : 1;
}

async function loadModules() {
  const files = readdirSync(HERE).filter((file) => file.endsWith(".js") && !NOT_MODULES.has(file));
  return Promise.all(files.sort().map((file) => import(new URL(file, HERE))));
}

/** Rows, seconds and date of one module; undefined when it failed. */
async function runModule(module) {
  const context = makeContext(module.name);
  const begin = process.hrtime.bigint();
  try {
    const rows = (await module.run(context)).map(completeRow);
    const seconds = Number((process.hrtime.bigint() - begin) / 100_000_000n) / 10;
    console.log(printTable(module.name, rows));
    return { date: new Date().toISOString(), seconds, rows };
  } catch (error) {
    console.error(`bench ${module.name}: ${error.stack ?? error}`);
    return undefined;
  } finally {
    await context.close();
  }
}

/** Modules that were not run keep their rows, unless those are from another machine. */
function save(measured) {
  const machine = describeMachine();
  const before = readResults();
  const kept = before && sameMachine(before, machine) ? before.modules : {};
  const modules = Object.fromEntries(Object.entries({ ...kept, ...measured }).sort());
  const results = { date: new Date().toISOString(), ...machine, modules };
  writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
}

function readResults() {
  try {
    return JSON.parse(readFileSync(RESULTS, "utf8"));
  } catch {
    return undefined;
  }
}

function printSummary(rows) {
  const judged = rows.map(isMet).filter((met) => met !== null);
  console.log(`\n${judged.filter(Boolean).length} of ${judged.length} targets met; bench/results.json written`);
}
