#!/usr/bin/env node
// CommonJS, as bin/package.json says: Node starts that several milliseconds sooner than its loader of ES modules.
const { statSync } = require("node:fs");

const writtenAt = (file) => statSync(`${__dirname}/../dist/${file}`, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** Runs the bundle; in a checkout where tsc alone has run since, what tsc wrote. The package has no dist/cli. */
async function run() {
  const stale = writtenAt("cli/main.js") > writtenAt("xvd/main.cjs");
  const { main } = stale ? await import("../dist/cli/main.js") : require("../dist/xvd/main.cjs");
  await main(process.argv.slice(2));
  ended = true;
}

let ended = false;
process.on("exit", (code) => {
  if (!ended && code === 0) process.exitCode = 13; // nothing is left to wait for, but the command waits: as Node does for modules
});
run();
