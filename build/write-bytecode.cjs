/** node write-bytecode.cjs DISK: lists the disk, and writes the bytecode of what that has run. */
const { renameSync, writeFileSync } = require("node:fs");
const { main } = require("../dist/xvd/main.cjs");

async function listAndWrite(disk) {
  await main(["part", "list", disk]);
  await main(["part", "list", disk, "--json"]);
  if (process.exitCode) return;
  const { path, make } = require.cache[require.resolve("../dist/xvd/common.cjs")].bytecode;
  writeFileSync(`${path}.new`, make());
  renameSync(`${path}.new`, path);
}

listAndWrite(process.argv[2]);
