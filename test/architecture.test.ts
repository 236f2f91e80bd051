/** The source keeps to the layout that docs/architecture.md draws, and the check itself can fail. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { breaches, LENGTH_MARKER } from "./support/architecture.js";
import { blank, importsOf, usesOf } from "./support/source-code.js";

const SRC = fileURLToPath(new URL("../src", import.meta.url));

function sourceTree(): Map<string, string> {
  const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  return new Map(files.sort().map((file) => [file, readFileSync(join(SRC, file), "utf8")]));
}

/** What the check says about a tree of these files, each given as path and text. */
const judge = (files: Record<string, string>) => breaches(new Map(Object.entries(files)));

test("the source keeps its architecture", () => {
  const sources = sourceTree();
  expect(sources.size).toBeGreaterThan(10);
  expect(breaches(sources)).toEqual([]);
});

describe("import direction", () => {
  const tree = (file: string, text: string) => ({
    [file]: text,
    "errors.ts": "",
    "bytes/size.ts": "",
    "block/device.ts": "",
    "nbd/client.ts": "",
    "stack/open.ts": "",
    "cli/report.ts": "",
  });

  test.each([
    ["block/a.ts", 'import { x } from "../bytes/size.js";'],
    ["nbd/a.ts", 'import type { B } from "../block/device.js";'],
    ["cli/a.ts", 'const { open } = await import("../stack/open.js");'],
    ["index.ts", 'export * from "./stack/open.js";'],
    ["bytes/a.ts", 'import { DiskError } from "../errors.js";'],
  ])("%s may %s", (file, text) => expect(judge(tree(file, text))).toEqual([]));

  test.each([
    ["bytes/a.ts", 'import { x } from "../block/device.js";', "imports go down only"],
    ["block/a.ts", 'import {\n  x,\n} from "../stack/open.js";', "imports go down only"],
    ["stack/a.ts", 'export { x } from "../cli/report.js";', "imports go down only"],
    ["formats/a.ts", 'import type { x } from "../nbd/client.js";', "neighbours do not import each other"],
    ["block/a.ts", 'const x = await import("../nbd/client.js");', "imports go down only"],
    ["block/a.ts", 'new Worker(new URL("../stack/open.js", import.meta.url))', "imports go down only"],
    ["block/a.ts", 'import "../index.js";', "imports go down only"],
    ["block/a.ts", 'new Worker(new URL("./b.js", import.meta.url))', "no such file"],
    ["block/a.ts", 'import x from "../../package.json";', "outside of src/"],
    ["helpers/a.ts", 'import "../errors.js";', "helpers has no place in the import order"],
  ])("%s may not %s", (file, text, reason) => {
    const found = judge(tree(file, text));
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(new RegExp(`^${file}:\\d+: `));
    expect(found[0]).toContain(reason);
  });

  test("a breach names the line of the import", () => {
    expect(judge(tree("bytes/a.ts", '// one\n\nimport {\n  x,\n} from "../block/device.js";'))[0]).toMatch(
      /^bytes\/a\.ts:5: /,
    );
  });

  test("cycles are found once, whatever their length", () => {
    const cycle = {
      "block/a.ts": 'import "./b.js";',
      "block/b.ts": 'import "./c.js";',
      "block/c.ts": 'import "./a.js";',
    };
    expect(judge(cycle)).toEqual(["block/a.ts:1: imports itself by way of block/a.ts -> block/b.ts -> block/c.ts"]);
    expect(judge({ "os/a.ts": 'import "./a.js";' })).toHaveLength(1);
    expect(
      judge({ "os/a.ts": 'const b = await import("./b.js");', "os/b.ts": 'export { a } from "./a.js";' }),
    ).toHaveLength(1);
    expect(judge({ "os/a.ts": 'import type { B } from "./b.js";', "os/b.ts": 'import { a } from "./a.js";' })).toEqual(
      [],
    );
    expect(
      judge({ "os/a.ts": 'import { type B, b } from "./b.js";', "os/b.ts": 'import { a } from "./a.js";' }),
    ).toHaveLength(1);
  });
});

describe("the outer world", () => {
  test.each([
    ["os/files.ts", 'import { open } from "node:fs/promises"; import koffi from "koffi";'],
    ["nbd/server.ts", 'import net from "node:net";'],
    ["xen/platform/simulated/store.ts", 'import net from "node:net";'],
    ["dom0/control.ts", 'import http from "node:http";'],
    ["dom0/backend-worker.ts", 'process.on("exit", () => {});'],
    ["cli/print.ts", "process.stdout.write(String(console.log));"],
    ["block/a.ts", "const buffer = Buffer.alloc(4);"],
    ["block/a.ts", "// process.env and console.log are elsewhere\nconst text = `import('node:fs') ${1} process.env`;"],
    ["block/a.ts", "ring.process.next(); type E = NodeJS.ProcessEnv; const postprocess = { x: 1 }; postprocess.x;"],
  ])("%s may %s", (file, text) => expect(judge({ [file]: text })).toEqual([]));

  test.each([
    ["block/a.ts", 'import { open } from "node:fs/promises";'],
    ["formats/a.ts", 'import fs from "fs";'],
    ["stack/a.ts", 'await import("fs-extra");'],
    ["xen/ring.ts", 'import koffi from "koffi";'],
    ["xen/ring.ts", 'import net from "node:net";'],
    ["nbd/a.ts", 'import http from "node:http";'],
    ["os/a.ts", 'import process from "node:process";'],
    ["os/a.ts", "if (process.platform === 'linux') {}"],
    ["os/a.ts", "globalThis.process.exit()"],
    ["block/a.ts", "console.log(1)"],
    ["block/a.ts", "const text = `${process.env.HOME}`;"],
    ["dom0/control.ts", "process.exit(1)"],
    ["cli/a.ts", 'import { readFileSync } from "node:fs";'],
  ])("%s may not %s", (file, text) => expect(judge({ [file]: text })).toHaveLength(1));
});

test("long files need a reason", () => {
  const lines = (count: number, head = "/** What it is. */") => `${head}\n${"x;\n".repeat(count - 1)}`;
  expect(judge({ "block/a.ts": lines(400) })).toEqual([]);
  expect(judge({ "block/a.ts": lines(401) })[0]).toContain("401 lines");
  expect(judge({ "block/a.ts": lines(401, `/** What it is. ${LENGTH_MARKER} one table holds it all. */`) })).toEqual(
    [],
  );
});

describe("reading source", () => {
  test("strings, templates, patterns and comments hide what they hold", () => {
    const text = "a('//') /* b */ ; c = /[/\"]`/ ; `x ${ d({ e: '}' }) } y` // z\nf";
    expect(blank(text, { strings: true }).replace(/\s+/g, " ")).toBe("a( ) ; c = ; d({ e: }) f");
    expect(blank(text, { strings: false }).split("\n")).toHaveLength(2);
  });

  test("imports in every form, and none that is only text", () => {
    const text =
      'import a from "./a.js";\nexport * as b from "./b.js";\nimport "./c.js"\n// import "./no.js"\nconst s = \'import "./no.js"\';\nx = import("./d.js");';
    expect(importsOf(text).map(({ specifier, line }) => `${specifier}:${line}`)).toEqual([
      "./a.js:1",
      "./b.js:2",
      "./c.js:3",
      "./d.js:6",
    ]);
  });

  test("uses of a global name", () => {
    expect(
      usesOf("process.env;\nobject.process.env;\nprocess\n  .exit();\nprocess['x']", "process").map(({ line }) => line),
    ).toEqual([1, 3, 5]);
  });
});
