/** The bundle that bin/xvd.js runs (docs/decisions/0006): what is loaded, what runs when parts of it are missing or damaged. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { tempDir, xvdWorld } from "../support/xvd.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BUNDLE = join(ROOT, "dist/xvd");
const world = xvdWorld();

beforeAll(async () => {
  writeFileSync(world.path("big.dsk"), "");
  truncateSync(world.path("big.dsk"), 2 ** 40);
  await world.xvd("part", "init", "big.dsk", "gpt");
  for (let i = 0; i < 15; i++) await world.xvd("part", "add", "big.dsk", "--size", "1G");
});

function node(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: world.dir, encoding: "utf8" });
  return { status, stdout, stderr };
}

/** Runs the command line of the bundle at `folder`; then what was loaded, and what became of the bytecode. */
function loadedBy(folder: string, ...argv: string[]) {
  const script = `
    require(${JSON.stringify(join(folder, "main.cjs"))}).main(${JSON.stringify(argv)}).then(() => {
      const files = Object.keys(require.cache);
      const common = files.find((file) => file.endsWith("common.cjs"));
      const bytecode = common && require.cache[common].bytecode;
      console.error(JSON.stringify({ files, accepted: bytecode?.accepted, path: bytecode?.path }));
    });`;
  const { stdout, stderr } = node("-e", script);
  const { files, accepted, path } = JSON.parse(stderr.trim().split("\n").at(-1)!) as {
    files: string[];
    accepted?: boolean;
    path?: string;
  };
  return { stdout, files: files.map((file) => basename(file)).sort(), accepted, path };
}

describe("what is loaded", () => {
  test("by --version: one file", () => {
    expect(loadedBy(BUNDLE, "--version").files).toEqual(["main.cjs"]);
  });

  test.each([
    ["by part list", []],
    ["by part list --json", ["--json"]],
  ])("%s: the common file and the native calls, nothing else", (_name, options) => {
    const { files, stdout } = loadedBy(BUNDLE, "part", "list", "big.dsk", ...options);
    expect(files).toEqual(["common.cjs", "koffi.node", "main.cjs"]);
    expect(stdout).toContain("big.dsk");
  });
});

describe("bytecode", () => {
  const list = ["part", "list", "big.dsk", "--json", "--force-share"]; // the copy has no koffi beside it to lock with

  /** A copy of the bundle whose bytecode, when there is some for this Node, is what `change` makes of it. */
  function copyWith(change: (bytecode: Buffer) => Uint8Array): string {
    const folder = join(tempDir(), "xvd");
    cpSync(BUNDLE, folder, { recursive: true });
    for (const name of readdirSync(folder).filter((name) => name.endsWith(".bytecode")))
      writeFileSync(join(folder, name), change(readFileSync(join(folder, name))));
    return folder;
  }

  test("of the build is used by the Node that built", (context) => {
    const { accepted, path } = loadedBy(BUNDLE, ...list);
    if (!readdirSync(BUNDLE).includes(basename(path!))) context.skip("built by another Node");
    expect(accepted).toBe(true);
  });

  test.each([
    ["a changed byte", (bytes: Buffer) => bytes.fill(bytes[20_000]! ^ 1, 20_000, 20_001)],
    ["a cut", (bytes: Buffer) => bytes.subarray(0, bytes.length >> 1)],
    ["nothing in it", () => new Uint8Array()],
  ])("with %s is not used, and the command does the same", (_name, change) => {
    const { accepted, stdout } = loadedBy(copyWith(change), ...list);
    expect(accepted).toBe(false);
    expect(stdout).toBe(node(join(ROOT, "bin/xvd.js"), ...list).stdout);
  });

  test("of another source is not used", () => {
    const folder = copyWith((bytes) => bytes);
    const source = join(folder, "common.source.js");
    // Of the same length, which is all that V8 compares.
    writeFileSync(source, readFileSync(source, "latin1").replace("partitiontable", "partitionTABLE"), "latin1");
    const { accepted, stdout } = loadedBy(folder, ...list);
    expect(accepted).toBe(false);
    expect(stdout).toContain("partitionTABLE");
  });
});

describe("bin/xvd.js", () => {
  /** A package with these modules in dist/, written `seconds` after 2020 began. */
  function packageWith(modules: Readonly<Record<string, [code: string, seconds: number]>>): string {
    const folder = tempDir();
    cpSync(join(ROOT, "bin"), join(folder, "bin"), { recursive: true });
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
    for (const [name, [code, seconds]] of Object.entries(modules)) {
      const path = join(folder, "dist", name);
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, code);
      utimesSync(path, 1_577_836_800 + seconds, 1_577_836_800 + seconds);
    }
    return join(folder, "bin/xvd.js");
  }
  const bundle = "exports.main = async (argv) => console.log('bundle', ...argv);";
  const modules = "export const main = async (argv) => console.log('modules', ...argv);";

  test.each([
    ["the bundle made after tsc", { "xvd/main.cjs": [bundle, 2], "cli/main.js": [modules, 1] }, "bundle a b"],
    ["what tsc wrote since", { "xvd/main.cjs": [bundle, 1], "cli/main.js": [modules, 2] }, "modules a b"],
    ["the bundle where there is nothing else", { "xvd/main.cjs": [bundle, 1] }, "bundle a b"],
    ["what tsc wrote where there is no bundle", { "cli/main.js": [modules, 1] }, "modules a b"],
  ] as [string, Record<string, [string, number]>, string][])("runs %s", (_name, files, expected) => {
    expect(node(packageWith(files), "a", "b")).toEqual({ status: 0, stdout: `${expected}\n`, stderr: "" });
  });

  test("a command that waits for nothing more fails", () => {
    const never = packageWith({ "xvd/main.cjs": ["exports.main = () => new Promise(() => {});", 1] });
    expect(node(never).status).toBe(13);
  });

  test("a command's own exit code stays", () => {
    const failing = packageWith({ "xvd/main.cjs": ["exports.main = async () => { process.exitCode = 2; };", 1] });
    expect(node(failing).status).toBe(2);
  });
});
