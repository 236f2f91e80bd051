/**
 * Stands before the file of the bundle that most commands load, and runs it from bytecode where the build left some that
 * was made by this very Node (version, architecture, size) from this very source. Otherwise V8 compiles the source.
 */
const { readFileSync, statSync } = require("node:fs");
const { constants, Script } = require("node:vm");
const { crc32 } = require("node:zlib");

const path = `${__dirname}/common.source.js`;
const bytecodePath = `${__dirname}/common.${process.version}-${process.arch}-${statSync(process.execPath).size}.bytecode`;
const source = readFileSync(path);

/** V8 trusts what it is given: a changed byte may end the process. So two CRCs stand before it, of the source and of itself. */
function readBytecode() {
  let stored;
  try {
    stored = readFileSync(bytecodePath);
  } catch {
    return undefined;
  }
  if (stored.length < 8 || stored.readUInt32LE(0) !== crc32(source)) return undefined;
  const bytecode = stored.subarray(8);
  return stored.readUInt32LE(4) === crc32(bytecode) ? bytecode : undefined;
}

/** What `readBytecode` reads, with all functions that have run so far. */
function withChecksums(bytecode) {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(crc32(source), 0);
  head.writeUInt32LE(crc32(bytecode), 4);
  return Buffer.concat([head, bytecode]);
}

const cachedData = readBytecode();
const script = new Script(source.toString("latin1"), {
  filename: path,
  cachedData,
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
});
const accepted = cachedData !== undefined && !script.cachedDataRejected;
module.bytecode = { path: bytecodePath, accepted, make: () => withChecksums(script.createCachedData()) }; // for the build and tests
script.runInThisContext().call(exports, exports, require, module, path, __dirname);
