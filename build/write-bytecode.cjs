/** node write-bytecode.cjs BUNDLE DISK: lists the disk by the bundle in that folder, and writes the bytecode of what that has run. */
const { writeFileSync } = require("node:fs");
const { join } = require("node:path");

async function listAndWrite(bundle, disk) {
  const { main } = require(join(bundle, "main.cjs"));
  await main(["part", "list", disk]);
  await main(["part", "list", disk, "--json"]);
  if (process.exitCode) return;
  const { path, make } = require.cache[require.resolve(join(bundle, "common.cjs"))].bytecode;
  writeFileSync(path, make());
}

listAndWrite(...process.argv.slice(2));
