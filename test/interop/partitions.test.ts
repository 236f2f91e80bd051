/** sfdisk, sgdisk and parted judge our tables, and we read theirs. */
import { execFile } from "node:child_process";
import { mkdtemp, open, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { planAdd } from "#src/partitions/changes/add.js";
import { planInit } from "#src/partitions/changes/init.js";
import { planRemove } from "#src/partitions/changes/remove.js";
import type { TablePlan } from "#src/partitions/plan.js";
import { toSfdiskJson } from "#src/partitions/sfdisk-json.js";
import { type PartitionTable, readPartitionTable } from "#src/partitions/table.js";
import { writePlan } from "#src/partitions/write.js";
import { MIB, seededRandom } from "../partitions/support.js";
import { havePeer } from "../support/peers.js";
import { fileDevice } from "./partitions-support.js";

const run = promisify(execFile);
const GIB = 1024 * MIB;
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

/** Runs a program with a script on its standard input. */
async function feed(program: string, args: string[], input: string): Promise<void> {
  const child = run(program, args);
  child.child.stdin!.end(input);
  await child;
}

async function sfdiskJson(path: string): Promise<unknown> {
  return JSON.parse((await run("sfdisk", ["-J", path])).stdout);
}

async function read(path: string): Promise<PartitionTable> {
  const device = await fileDevice(path);
  try {
    return (await readPartitionTable(device))!;
  } finally {
    await device.close();
  }
}

/** Plans on the file's own table and writes. */
async function change(path: string, plan: (table: PartitionTable) => TablePlan): Promise<void> {
  const device = await fileDevice(path);
  try {
    await writePlan(device, plan((await readPartitionTable(device))!));
  } finally {
    await device.close();
  }
}

async function init(path: string, format: string, sectorSize: 512 | 4096 = 512): Promise<void> {
  const device = await fileDevice(path);
  await writePlan(device, planInit(device, null, { format, sectorSize }, seededRandom()));
  await device.close();
}

async function expectSame(path: string): Promise<void> {
  expect(toSfdiskJson(await read(path), path)).toEqual(await sfdiskJson(path));
}

/** sgdisk's last line says "No problems" also after loading a backup: nothing else may be said either. */
async function expectClean(path: string): Promise<void> {
  const { stdout, stderr } = await run("sgdisk", ["-v", path]);
  expect(stdout).toContain("No problems found");
  expect(stdout + stderr).not.toMatch(/ERROR|Caution|Warning|Problem:/);
}

describe.skipIf(!havePeer("sfdisk"))("tables by sfdisk", () => {
  it.each([
    ["gpt", "label: gpt\n2048,100M,U\n,200M,S\n,,L\n"],
    [
      "gpt-gaps",
      'label: gpt\nfirst-lba: 34\n3 : size=10M, name="seven é", attrs="RequiredPartition GUID:60,63"\n9 : start=100M, size=1M, type=L\n',
    ],
    ["gpt-small-array", "label: gpt\ntable-length: 4\n,1M\n"],
    ["gpt-long-array", "label: gpt\ntable-length: 512\n,1M\n200 : start=300M, size=1M\n"],
    ["dos", "label: dos\n,100M,c,*\n,50M,82\n,,E\n,100M\n,100M,8e\n,100M\n"],
    ["dos-lba-extended", "label: dos\nlabel-id: 0x1\n,1M,7\n,500M,f\n,10M,b\n,20M,83\n"],
    ["dos-empty-extended", "label: dos\n,,E\n"],
  ])("%s", async (name, script) => {
    const path = await image(`${name}.dsk`, GIB);
    await feed("sfdisk", ["-q", path], script);
    await expectSame(path);
    expect((await read(path)).problems.filter(({ level }) => level === "damage")).toEqual([]);
  });

  it("more than fifteen are read whole, with a note", async () => {
    const path = await image("many.dsk", GIB);
    await feed("sfdisk", ["-q", path], `label: gpt\n${",1M\n".repeat(20)}`);
    await expectSame(path);
    const table = await read(path);
    expect(table.partitions).toHaveLength(20);
    expect(table.problems.map(({ code }) => code)).toEqual(["more-than-fifteen"]);
  });

  it("a disk whose name ends in a digit", async () => {
    const path = await image("disk7", 64 * MIB);
    await feed("sfdisk", ["-q", path], "label: gpt\n,1M\n");
    await expectSame(path);
  });
});

describe.skipIf(!havePeer("sgdisk", "sfdisk"))("tables by sgdisk", () => {
  it("empty slots, names, attributes with unknown bits", async () => {
    const path = await image("g.dsk", GIB);
    await run("sgdisk", [
      "-n",
      "3:0:+64M",
      "-t",
      "3:8e00",
      "-n",
      "7:0:+64M",
      "-c",
      "7:seven é",
      "-A",
      "7:set:2",
      "-A",
      "7:set:48",
      "-A",
      "7:set:5",
      path,
    ]);
    await expectSame(path);
    const before = await read(path);
    expect(before.partitions[1]!.attributes).toBe((1n << 2n) | (1n << 5n) | (1n << 48n));
    await change(path, (table) => planAdd(table, { size: MIB }, seededRandom()));
    const after = await read(path);
    expect(after.partitions.filter(({ number }) => number !== 1)).toEqual(before.partitions);
    await expectClean(path);
  });

  it("long arrays keep their length", async () => {
    const path = await image("long.dsk", GIB);
    await run("sgdisk", ["-S", "256", "-n", "200:0:+1M", path]);
    await change(path, (table) => planAdd(table, { size: MIB }, seededRandom()));
    await expectSame(path);
    await expectClean(path);
    expect((await read(path)).partitions.map(({ number }) => number)).toEqual([1, 200]);
  });

  it("arrays that do not begin at block 2", async () => {
    const path = await image("moved.dsk", GIB);
    await run("sgdisk", ["-o", "-j", "1000", "-n", "1:0:+1M", path]);
    await change(path, (table) => planAdd(table, { size: MIB }, seededRandom()));
    await expectSame(path);
    expect((await run("sgdisk", ["-v", path])).stdout).toContain("No problems found");
    expect((await read(path)).label === "gpt" && (await read(path))).toMatchObject({ onDisk: { entriesLba: 1000 } });
  });

  it("hybrid MBRs are told and kept", async () => {
    const path = await image("hybrid.dsk", GIB);
    await run("sgdisk", ["-n", "1:0:+64M", "-n", "2:0:+64M", "-h", "1:2", path]);
    const before = await sector(path, 0);
    const table = await read(path);
    expect(table.label).toBe("gpt");
    expect(table.problems.map(({ code }) => code)).toEqual(["hybrid-mbr"]);
    await change(path, (found) => planAdd(found, { size: MIB }, seededRandom()));
    expect(await sector(path, 0)).toBe(before);
  });
});

describe.skipIf(!havePeer("parted"))("tables by parted", () => {
  it.each(["gpt", "msdos"])("%s", async (label) => {
    const path = await image(`parted-${label}.dsk`, GIB);
    const parts =
      label === "gpt"
        ? ["mkpart", "first", "ext4", "1MiB", "65MiB", "mkpart", "second", "fat32", "65MiB", "100%"]
        : [
            "mkpart",
            "primary",
            "1MiB",
            "65MiB",
            "mkpart",
            "extended",
            "65MiB",
            "100%",
            "mkpart",
            "logical",
            "66MiB",
            "99MiB",
          ];
    await run("parted", ["-s", path, "mklabel", label, ...parts]);
    await expectSame(path);
  });
});

describe.skipIf(!havePeer("sfdisk", "sgdisk", "parted"))("our tables", () => {
  it("gpt with fifteen, and with some removed", async () => {
    const path = await image("ours.dsk", 2 * GIB);
    await init(path, "gpt");
    await expectClean(path);
    const random = seededRandom(7);
    for (let i = 1; i <= 15; i++)
      await change(path, (table) =>
        planAdd(table, { size: 64 * MIB, name: `part${i} ü`, type: i === 1 ? "efi" : "linux" }, random),
      );
    await expectSame(path);
    await expectClean(path);
    await run("sfdisk", ["-V", path]);
    for (const number of [2, 15]) await change(path, (table) => planRemove(table, number));
    await expectSame(path);
    await expectClean(path);
    const { stdout } = await run("parted", ["-sm", path, "unit", "B", "print"]);
    expect(stdout.match(/^\d+:/gm)).toHaveLength(13);
  });

  it("mbr with logical partitions up to fifteen", async () => {
    const path = await image("ours-mbr.dsk", 4 * GIB);
    await init(path, "mbr");
    const random = seededRandom();
    for (let i = 0; i < 3; i++)
      await change(path, (table) => planAdd(table, { size: 100 * MIB, bootable: i === 1 }, random));
    for (let i = 5; i <= 15; i++)
      await change(path, (table) =>
        planAdd(table, { size: 100 * MIB, logical: true, type: i % 2 ? "lvm" : "linux" }, random),
      );
    await expectSame(path);
    const { stdout } = await run("sfdisk", ["-V", path]);
    expect(stdout).toContain("No errors detected");
    for (const number of [7, 5, 2]) {
      await change(path, (table) => planRemove(table, number));
      await expectSame(path);
      await run("sfdisk", ["-V", path]);
    }
  });

  it("CHS fields as sfdisk fills them", async () => {
    const [ours, theirs] = [await image("chs-a.dsk", 40 * GIB), await image("chs-b.dsk", 40 * GIB)];
    await feed("sfdisk", ["-q", theirs], "label: dos\nlabel-id: 0x12345678\n,9G,83\n,20G,83\n,,E\n,1G\n,1G\n");
    const device = await fileDevice(ours);
    await writePlan(device, planInit(device, null, { format: "mbr", id: "0x12345678" }, seededRandom()));
    await device.close();
    for (const request of [
      { size: 9 * GIB },
      { size: 20 * GIB },
      { type: "extended" },
      { size: GIB, logical: true },
      { size: GIB, logical: true },
    ])
      await change(ours, (table) => planAdd(table, request, seededRandom()));
    const sectors = [
      0,
      ...((await read(ours)) as Extract<PartitionTable, { label: "dos" }>).onDisk.chain.map(({ lba }) => lba),
    ];
    expect(sectors).toHaveLength(3);
    for (const lba of sectors) expect(await sector(ours, lba), `sector ${lba}`).toEqual(await sector(theirs, lba));
  });

  it("a table of 4096-byte sectors, as sfdisk sees it with that size", async () => {
    const path = await image("k.dsk", GIB);
    await init(path, "gpt", 4096);
    await change(path, (table) => planAdd(table, { size: 100 * MIB }, seededRandom()));
    const table = await read(path);
    expect(table.sectorSize).toBe(4096);
    expect(toSfdiskJson(table, path).partitiontable).toMatchObject({
      firstlba: 6,
      lastlba: 262138,
      partitions: [{ start: 256, size: 25600 }],
    });
  });
});

async function sector(path: string, lba: number): Promise<string> {
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(512), 0, 512, lba * 512);
    return buffer.toString("hex");
  } finally {
    await file.close();
  }
}
