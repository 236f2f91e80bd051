/**
 * The second half of `npm run build`: the command line as a few CommonJS files in dist/xvd/, which bin/xvd.js runs.
 * What `xvd part list` loads is one of them; the rest is in files of its own, loaded when it is asked for.
 * Why: docs/decisions/0006-the-command-line-is-bundled.md. The library, worker threads and tests use dist/ as tsc left it.
 */
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const HERE = fileURLToPath(new URL("./", import.meta.url));
const DIST = join(HERE, "../dist");
const IN_USE = join(DIST, "xvd");
/** Filled first, then put in the place of the one in use: commands that run meanwhile find the one or the other. */
const OUT = join(DIST, `xvd-${process.pid}`);

/** Modules that lead to all that `xvd part list` needs; what they import comes with them. */
const COMMON =
  /\/(commander\/|dist\/(cli\/(registry|verbs\/part\/(list|print-table))|stack\/(disk|open-image)|partitions\/table)\.js$)/;

/** Worker threads, package.json, bin/xvd.js and koffi are found from a module's own place in dist/, also within the bundle. */
const ownPlace = {
  name: "import.meta.url stays that of the module in dist/",
  transform: {
    filter: { code: "import.meta.url" },
    handler: (code, id) =>
      code
        .replaceAll("createRequire(import.meta.url)", "moduleRequire")
        .replaceAll("import.meta.url", `moduleUrl(${JSON.stringify(relative(DIST, id))})`),
  },
};
const BANNER = `const moduleRequire = require;
const moduleUrl = (path) => require("node:url").pathToFileURL(__dirname + "/../" + path).href;`;

/** Commander can start programs as subcommands, of which xvd has none; what that needs takes two milliseconds to load. */
const noSubprograms = {
  name: "commander without node:child_process",
  transform: {
    filter: { id: /\/commander\/lib\/command\.js$/ },
    handler(code) {
      const lazy = code.replace("require('node:child_process')", "{ get spawn() { return $&.spawn; } }");
      if (lazy === code) this.error("commander does not require node:child_process: this plugin can go");
      return lazy;
    },
  },
};

async function bundle() {
  const build = await rolldown({
    input: { main: join(DIST, "cli/main.js") },
    platform: "node",
    external: ["koffi", "@bokuweb/zstd-wasm"],
    plugins: [ownPlace, noSubprograms],
    treeshake: { moduleSideEffects: "no-external" },
    checks: { ineffectiveDynamicImport: false }, // an import() within the common file needs no file of its own
  });
  const { output } = await build.write({
    dir: OUT,
    format: "cjs",
    banner: BANNER,
    dynamicImportInCjs: false,
    comments: { legal: true, annotation: false, jsdoc: false },
    entryFileNames: "[name].cjs",
    chunkFileNames: "[name].cjs",
    codeSplitting: { groups: [{ name: "common", test: COMMON }] },
  });
  writeLicences(output.flatMap(({ moduleIds = [] }) => moduleIds));
}

/** The licences of the packages that these modules come from, which their authors ask to keep with every copy. */
function writeLicences(modules) {
  const packages = new Set(modules.flatMap((path) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path) ?? []));
  const texts = [...packages].sort().map((folder) => {
    const { name, version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e(\.\w+)?$/i.test(entry));
    if (!file) throw new Error(`Cannot bundle ${name}: its folder holds no licence`);
    return `${name} ${version}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
  });
  writeFileSync(join(OUT, "LICENSES.txt"), texts.join(`\n${"=".repeat(80)}\n\n`));
}

/** Puts common.cjs of this folder before the common file, which becomes a script that it can give bytecode to. */
function prepareCommon() {
  const chunk = join(OUT, "common.cjs");
  writeFileSync(join(OUT, "common.source.js"), asFunction(withHelpers(readFileSync(chunk, "utf8"))));
  copyFileSync(join(HERE, "common.cjs"), chunk);
}

/** The bundler's own few functions in place of the file that holds them: one file less to find. */
function withHelpers(code) {
  const helpers = readFileSync(join(OUT, "rolldown-runtime.cjs"), "utf8");
  return code.replace(
    'require("./rolldown-runtime.cjs")',
    () => `(() => { const exports = {};\n${helpers}\nreturn exports; })()`,
  );
}

/** The function that Node makes of a CommonJS file, in ASCII, which V8 holds in half the memory. */
function asFunction(code) {
  const ascii = code.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return `(function (exports, require, module, __filename, __dirname) { ${ascii}\n})`;
}

const RUN = "require(process.argv[1]).main(process.argv.slice(2))";

/** Leaves the bytecode of all that listing a disk runs, for the Node that runs this. */
function writeBytecode() {
  const folder = mkdtempSync(join(tmpdir(), "xvd-build-"));
  try {
    const disk = join(folder, "small.dsk");
    const run = (...args) => execFileSync(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
    const xvd = (...args) => run("-e", RUN, join(OUT, "main.cjs"), ...args);
    xvd("create", disk, "8M");
    xvd("part", "init", disk, "gpt");
    xvd("part", "add", disk, "--size", "1M");
    run(join(HERE, "write-bytecode.cjs"), OUT, disk);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function replaceOld() {
  const old = `${OUT}-old`;
  if (existsSync(IN_USE)) renameSync(IN_USE, old);
  renameSync(OUT, IN_USE);
  rmSync(old, { recursive: true, force: true });
}

try {
  await bundle();
  prepareCommon();
  writeBytecode();
  replaceOld();
} finally {
  rmSync(OUT, { recursive: true, force: true });
}
