/** After every kind of change, sfdisk, sgdisk and partx read what we planned; scripts go both ways; random tables too. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { planAdd } from "#src/partitions/changes/add.js";
import { planApply } from "#src/partitions/changes/apply.js";
import { planConvert } from "#src/partitions/changes/convert.js";
import { planMove } from "#src/partitions/changes/move.js";
import { planRemove } from "#src/partitions/changes/remove.js";
import { planRepair } from "#src/partitions/changes/repair.js";
import { planResize } from "#src/partitions/changes/resize.js";
import { planSet } from "#src/partitions/changes/set.js";
import type { TablePlan } from "#src/partitions/plan.js";
import { parseLayout } from "#src/partitions/script/parse.js";
import { printScript } from "#src/partitions/script/sfdisk-script.js";
import { toSfdiskJson } from "#src/partitions/sfdisk-json.js";
import { type PartitionTable, readPartitionTable } from "#src/partitions/table.js";
import { writePlan } from "#src/partitions/write.js";
import { MIB, seededRandom } from "../partitions/support.js";
import { havePeer } from "../support/peers.js";
import { fileDevice } from "./partitions-support.js";

const run = promisify(execFile);
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "xvd-pt-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function image(name: string, size: number): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, "");
  await truncate(path, size);
  return path;
}

async function feed(program: string, args: string[], input: string): Promise<void> {
  const child = run(program, args);
  child.child.stdin!.end(input);
  await child;
}

/** Reads the file's table, plans on it, writes; returns the table then. */
async function change(path: string, plan: (table: PartitionTable) => TablePlan): Promise<PartitionTable> {
  const device = await fileDevice(path);
  try {
    await writePlan(device, plan((await readPartitionTable(device))!));
    return (await readPartitionTable(device))!;
  } finally {
    await device.close();
  }
}

async function apply(path: string, text: string): Promise<PartitionTable> {
  const device = await fileDevice(path);
  try {
    await writePlan(device, planApply(device, await readPartitionTable(device), parseLayout(text), seededRandom(5)));
    return (await readPartitionTable(device))!;
  } finally {
    await device.close();
  }
}

async function sfdiskJson(path: string): Promise<unknown> {
  return JSON.parse((await run("sfdisk", ["-J", path])).stdout);
}

async function dump(path: string): Promise<string> {
  return (await run("sfdisk", ["-d", path])).stdout;
}

async function expectClean(path: string, table: PartitionTable): Promise<void> {
  expect(await sfdiskJson(path)).toEqual(toSfdiskJson(table, path));
  if (table.label === "gpt") {
    const { stdout, stderr } = await run("sgdisk", ["-v", path]);
    expect(stdout).toContain("No problems found");
    expect(stdout + stderr).not.toMatch(/ERROR|Caution|Problem:/);
  } else expect((await run("sfdisk", ["-V", path])).stdout).toContain("No errors detected");
}

describe.skipIf(!havePeer("sfdisk", "sgdisk"))("changes, judged by sfdisk and sgdisk", () => {
  it.each(["gpt", "mbr"])("%s: set, resize, move the entry, remove, convert there and back", async (label) => {
    const path = await image(`${label}.dsk`, 512 * MIB);
    const logical =
      label === "mbr"
        ? "label: dos\n,20M,c,*\n,20M\n,,E\n,30M\n,30M,8e\n,30M\n"
        : 'label: gpt\nfirst-lba: 34\nstart=1MiB,size=20M,type=U\nstart=40MiB,size=20M\nstart=80MiB,size=30M\nstart=120MiB,size=30M,type=linux\n5 : start=160MiB,size=30M,name="x, y"\n';
    await feed("sfdisk", ["-q", path], logical);
    const last = label === "mbr" ? 7 : 5;
    const plans: ((table: PartitionTable) => TablePlan)[] = [
      (table) => planSet(table, 1, { type: "swap", bootable: true }),
      (table) => planSet(table, last, { type: "lvm" }),
      (table) => planResize(table, last, "all"),
      (table) => planResize(table, last, 10 * MIB),
      (table) => planResize(table, 2, { by: -5 * MIB }),
      (table) => planMove(table, last, { by: 50 * MIB }).table,
      (table) => planRemove(table, last - 1),
      (table) => planConvert(table, { label: label === "gpt" ? "dos" : "gpt" }, seededRandom()),
      (table) => planConvert(table, { label: label === "gpt" ? "gpt" : "dos" }, seededRandom()),
    ];
    for (const plan of plans) await expectClean(path, await change(path, plan));
  });

  it("repairs what sgdisk then finds good", async () => {
    const path = await image("repair.dsk", 64 * MIB);
    await feed("sfdisk", ["-q", path], "label: gpt\nfirst-lba: 34\n,10M\n,10M\n");
    for (const at of [512, 1024 + 32, 64 * MIB - 512, 64 * MIB - 16896 + 8]) {
      const device = await fileDevice(path);
      await device.write(at, Uint8Array.of(0xa5, 0x5a));
      await device.close();
      await expectClean(path, await change(path, (table) => planRepair(table, seededRandom())));
    }
    for (const size of [80 * MIB, 40 * MIB]) {
      await truncate(path, size);
      await expectClean(path, await change(path, (table) => planRepair(table, seededRandom())));
    }
  });

  it("a table after growth is as sgdisk -e makes it", async () => {
    const [ours, theirs] = [await image("grown-a.dsk", 32 * MIB), await image("grown-b.dsk", 32 * MIB)];
    for (const path of [ours, theirs]) {
      await run("sgdisk", [
        "-n",
        "1:0:+8M",
        "-U",
        "C0FFEE00-1234-4ABC-8DEF-0123456789AB",
        "-u",
        "1:11111111-1111-4111-8111-111111111111",
        path,
      ]);
      await truncate(path, 48 * MIB);
    }
    await run("sgdisk", ["-e", theirs]);
    await change(ours, (table) => planRepair(table, seededRandom()));
    const [a, b] = await Promise.all([dump(ours), dump(theirs)]);
    expect(a.replaceAll(ours, "")).toBe(b.replaceAll(theirs, ""));
  });
});

describe.skipIf(!havePeer("sfdisk"))("scripts, both ways", () => {
  it.each([
    "label: gpt\n,10M,U\n,20M,S\n,,L\n",
    'label: gpt\nfirst-lba: 34\nsize=10M, name="a \\x22quoted\\x22 é name", attrs="RequiredPartition GUID:50"\n7: start=100M size=4M\n',
    "label: dos\n,10M,c,*\n,20M,82\n,,E\n,20M\n,20M,8e\n",
    "label: dos\nsize=4096, type=83, bootable\nstart=20480, size=2MiB, type=7\n",
    "label: gpt\ntable-length: 256\n12 : size=5M, type=V\n1 : size=5M, type=R\n",
  ])("sfdisk's reading of our dump is ours of its dump: %j", async (script) => {
    const [theirs, ours, again] = await Promise.all(["t.dsk", "o.dsk", "a.dsk"].map((name) => image(name, 256 * MIB)));
    await feed("sfdisk", ["-q", theirs!], script);
    const table = await apply(ours!, await dump(theirs!));
    expect(toSfdiskJson(table, theirs!)).toEqual(await sfdiskJson(theirs!));
    expect(toSfdiskJson(table, ours!)).toEqual(await sfdiskJson(ours!));
    await feed("sfdisk", ["-q", again!], printScript(table, "x.dsk"));
    expect((await dump(again!)).replaceAll(again!, "")).toBe((await dump(theirs!)).replaceAll(theirs!, ""));
  });

  it("sfdisk's own JSON is applied", async () => {
    const [theirs, ours] = [await image("j.dsk", 256 * MIB), await image("k.dsk", 256 * MIB)];
    await feed("sfdisk", ["-q", theirs], "label: gpt\ntable-length: 4\n,10M,U\n,20M,S\n");
    const table = await apply(ours, JSON.stringify(await sfdiskJson(theirs)));
    expect(toSfdiskJson(table, theirs)).toEqual(await sfdiskJson(theirs));
  });
});

const sizes = fc.array(
  fc.record({
    size: fc.integer({ min: 1, max: 30 * 2048 }),
    logical: fc.boolean(),
    type: fc.constantFrom("linux", "swap", "lvm", "raid"),
  }),
  { minLength: 1, maxLength: 16 },
);

describe.skipIf(!havePeer("sfdisk"))("random tables", () => {
  it("ours are read by sfdisk as we planned them", async () => {
    const path = await image("random.dsk", 600 * MIB);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom("gpt", "dos"), sizes, async (label, wanted) => {
        let table = await apply(path, `label: ${label}\n`);
        for (const { size, logical, type } of wanted) {
          try {
            table = await change(path, (now) =>
              planAdd(now, { size: size * 512, type, logical: label === "dos" && logical }, seededRandom(size)),
            );
          } catch {
            // Full, or out of numbers: what matters is the table that is there.
          }
        }
        expect(await sfdiskJson(path)).toEqual(toSfdiskJson(table, path));
      }),
      { numRuns: 15 },
    );
  });

  it("sfdisk's are read by us as sfdisk reads them", async () => {
    const path = await image("theirs.dsk", 600 * MIB);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom("gpt", "dos"), sizes, async (label, wanted) => {
        const lines = wanted
          .slice(0, label === "gpt" ? 16 : 11)
          .map(({ size, type }) => `size=${size}, type=${{ linux: "L", swap: "S", lvm: "V", raid: "R" }[type]}`);
        const script = label === "gpt" ? lines : [lines[0], "size=500M, type=E", ...lines.slice(1)];
        await feed("sfdisk", ["-q", path], `label: ${label}\n${script.join("\n")}\n`).catch(() => {}); // what did not fit is not there
        const table = await change(path, (now) => planRepair(now, seededRandom()));
        expect(toSfdiskJson(table, path)).toEqual(await sfdiskJson(path));
      }),
      { numRuns: 15 },
    );
  });
});

describe.skipIf(!havePeer("partx"))("partx, which reads as the kernel does", () => {
  it.each(["gpt", "dos"])("%s", async (label) => {
    const path = await image(`partx-${label}.dsk`, 128 * MIB);
    const table = await apply(
      path,
      label === "gpt" ? "label: gpt\n,10M\n5 : size=20M\n,30M\n" : "label: dos\n,10M\n,,E\n,10M\n,20M\n",
    );
    const { stdout } = await run("partx", ["--show", "--output", "NR,START,SECTORS", path]);
    const found = stdout
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => line.trim().split(/\s+/).map(Number));
    // partx shows of an extended partition only that it is there.
    const ours = table.partitions
      .filter(({ kind }) => kind !== "extended")
      .map(({ number, offset, size }) => [number, offset / 512, size / 512]);
    const extended = table.partitions.find(({ kind }) => kind === "extended")?.number;
    expect(found.filter(([number]) => number !== extended)).toEqual(ours);
  });
});
