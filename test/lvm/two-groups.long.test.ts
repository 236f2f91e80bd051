/** Groups split, merged and imported from copies: what every cut leaves, and what is refused. */
import { copyFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { exported } from "#src/lvm/changes/change-group.js";
import { planMergeGroups } from "#src/lvm/changes/merge-group.js";
import { planSplitGroup } from "#src/lvm/changes/split-group.js";
import { planCommit, runCommit } from "#src/lvm/commit.js";
import { newId } from "#src/lvm/id.js";
import type { VolumeGroup } from "#src/lvm/metadata.js";
import { type FoundPv, findGroup, scanDevices } from "#src/lvm/scan.js";
import { type XvdWorld, xvdWorld } from "../support/xvd.js";
import {
  addVolume,
  type Disk,
  extents,
  HEADER,
  MIB,
  makeGroup,
  memoryDisks,
  seededRandom,
  writeGroup,
} from "./support.js";
import { disk, names, rows } from "./world.js";

/** Groups by name, each with the volumes on it and whether it may be changed. */
async function state(disks: readonly Disk[]): Promise<string> {
  const { groups } = await scanDevices(disks);
  return groups
    .map(({ group, members }) => {
      const whole = [...members.values()].every(Boolean) ? "" : " partial";
      const mark = group.status.includes("EXPORTED") ? " exported" : "";
      return `${group.name}(${group.logicalVolumes.map(({ name }) => name).join(" ")})${mark}${whole}`;
    })
    .sort()
    .join(" ");
}

/** Writes a group sector by sector; returns the states that cuts leave, each once. */
async function cutsOf(disks: readonly Disk[], group: VolumeGroup, members: readonly FoundPv[]): Promise<string[]> {
  const seen: string[] = [];
  for (const step of planCommit({ group, header: HEADER, members, removed: [] })) {
    if (step.kind === "flush") continue;
    const { bytes } = disks.find(({ name }) => name === step.pv)!;
    for (let at = 0; at < step.data.length; at += 512) {
      bytes.set(step.data.subarray(at, at + 512), step.offset + at);
      const now = await state(disks);
      if (seen.at(-1) !== now) seen.push(now);
    }
  }
  return seen;
}

async function membersOf(disks: readonly Disk[], name: string): Promise<FoundPv[]> {
  return [...findGroup(await scanDevices(disks), name).members.values()].filter((pv) => pv !== null);
}

async function twoVolumes(disks: readonly Disk[]): Promise<VolumeGroup> {
  const group = await makeGroup(disks);
  const on = (pv: string) => ({ size: extents(3), within: [{ pv, first: 0, count: 10 }] });
  return writeGroup(disks, addVolume(addVolume(group, "a", on("pv0")), "b", on("pv1")));
}

describe("a cut leaves both groups or one, never half of any", () => {
  test("split", async () => {
    const disks = memoryDisks([4 * MIB, 4 * MIB, 4 * MIB]);
    const group = await twoVolumes(disks);
    const plan = planSplitGroup(group, { name: "new", id: newId(seededRandom(3)), into: null, pvs: ["pv1"] });
    const going = (await membersOf(disks, "vg")).filter(({ name }) => name === "disk1");
    const part = { ...exported(plan.part, true), seqno: 1 };
    expect(await cutsOf(disks, part, going)).toEqual(["vg(a b)"]);
    const staying = (await membersOf(disks, "vg")).filter(({ name }) => name !== "disk1");
    const rest = { ...plan.from, seqno: group.seqno + 1 };
    expect(await cutsOf(disks, rest, staying)).toEqual(["vg(a b)", "new(b) exported vg(a)"]);
    const last = { ...exported(part, false), seqno: 2 };
    expect(await cutsOf(disks, last, await membersOf(disks, "new"))).toEqual(["new(b) exported vg(a)", "new(b) vg(a)"]);
  });

  test("a split that was cut is gone with the next change of the group", async () => {
    const disks = memoryDisks([4 * MIB, 4 * MIB]);
    const group = await twoVolumes(disks);
    const plan = planSplitGroup(group, { name: "new", id: newId(seededRandom(3)), into: null, pvs: ["pv1"] });
    const going = (await membersOf(disks, "vg")).slice(1);
    await runCommit(planCommit({ group: exported(plan.part, true), header: HEADER, members: going, removed: [] }));
    await writeGroup(disks, group);
    const scan = await scanDevices(disks);
    expect(scan.groups.map((found) => found.group.name)).toEqual(["vg"]);
    expect(scan.warnings).toEqual([]);
  });

  test("merge", async () => {
    const disks = memoryDisks([4 * MIB, 4 * MIB, 4 * MIB]);
    const group = await twoVolumes(disks);
    const id = newId(seededRandom(3));
    const plan = planSplitGroup(group, { name: "other", id, into: null, pvs: ["pv1"] });
    const [first, second, third] = (await membersOf(disks, "vg")) as [FoundPv, FoundPv, FoundPv];
    await runCommit(planCommit({ group: plan.part, header: HEADER, members: [second], removed: [] }));
    const left = { ...plan.from, seqno: group.seqno + 1 };
    await runCommit(planCommit({ group: left, header: HEADER, members: [first, third], removed: [] }));
    expect(await state(disks)).toBe("other(b) vg(a)");
    const ending = { ...exported(plan.part, true), seqno: 2 };
    expect(await cutsOf(disks, ending, await membersOf(disks, "other"))).toEqual([
      "other(b) vg(a)",
      "other(b) exported vg(a)",
    ]);
    const merged = planMergeGroups(left, ending, () => newId(seededRandom(4))).group;
    const all = [...(await membersOf(disks, "vg")), ...(await membersOf(disks, "other"))];
    expect(await cutsOf(disks, { ...merged, seqno: merged.seqno + 1 }, all)).toEqual([
      "other(b) exported vg(a)",
      "vg(a b)",
    ]);
  });
});

const worldWith = async (...sizes: number[]): Promise<XvdWorld> => {
  const world = xvdWorld();
  for (const [i, size] of sizes.entries()) disk(world, `p${i}.dsk`, size * MIB);
  return world;
};

describe("the commands", () => {
  test("split, merge and back again by vgcfgrestore --last", async () => {
    const world = await worldWith(32, 32, 32);
    await world.xvd("vgcreate", "vg", "p0.dsk", "p1.dsk", "p2.dsk");
    await world.xvd("lvcreate", "-l", "2", "-n", "a", "vg", "p0.dsk");
    await world.xvd("lvcreate", "-l", "2", "-n", "b", "vg", "p1.dsk");
    await world.xvd("io", "lvm:vg/b", "-c", "write -P 0x42 0 8M");
    const dry = await world.xvd("vgsplit", "--dry-run", "-n", "b", "vg", "new");
    expect(dry).toContain("- vg/logical_volumes/b/segment_count = 1");
    expect(dry).toContain("+ new/logical_volumes/b/segment_count = 1");
    expect(await world.xvd("vgsplit", "-n", "b", "vg", "new")).toContain('New volume group "new" successfully split');
    await world.xvd("io", "lvm:new/b", "-c", "read -P 0x42 0 8M");
    await world.xvd("vgcfgrestore", "--last", "vg");
    expect((await rows(world, "vgs")).map((row) => [row.vg_name, row.pv_count])).toEqual([["vg", "3"]]);
    await world.xvd("vgsplit", "vg", "new", "p1.dsk");
    await world.xvd("vgsplit", "vg", "new", "p2.dsk");
    expect((await rows(world, "vgs")).map((row) => [row.vg_name, row.pv_count])).toEqual([
      ["new", "2"],
      ["vg", "1"],
    ]);
    await world.xvd("vgmerge", "vg", "new");
    expect(await names(world)).toEqual(["a", "b"]);
    await world.xvd("vgck");
    await world.xvd("vgcfgrestore", "--last", "vg");
    await world.xvd("vgcfgrestore", "--last", "new");
    await world.xvd("io", "lvm:new/b", "-c", "read -P 0x42 0 8M");
    await world.xvd("vgck");
  });

  test("what does not go together is refused, and nothing is written", async () => {
    const world = await worldWith(32, 32, 32, 32);
    await world.xvd("vgcreate", "vg", "p0.dsk", "p1.dsk");
    await world.xvd("vgcreate", "-s", "1m", "small", "p2.dsk");
    await world.xvd("vgcreate", "same", "p3.dsk");
    await world.xvd("lvcreate", "-i", "2", "-l", "4", "-n", "a", "vg");
    await world.xvd("lvcreate", "-l", "1", "-n", "a", "same");
    const before = ["p0.dsk", "p1.dsk", "p2.dsk", "p3.dsk"].map((name) => readFileSync(world.path(name)));
    for (const [command, why] of [
      [["vgsplit", "vg", "new", "p1.dsk"], /Can't split LV a between two Volume Groups/],
      [["vgsplit", "vg", "new", "p0.dsk", "p1.dsk"], /cannot split all of volume group vg/],
      [["vgsplit", "vg", "new", "p3.dsk"], /not found in Volume Group/],
      [["vgmerge", "vg", "small"], /Extent sizes differ/],
      [["vgmerge", "vg", "same"], /Duplicate logical volume name "a" in "vg" and "same"/],
      [["vgmerge", "vg", "nope"], /"nope" not found/],
      [["vgimport", "vg"], /not exported/],
      [["vgchange", "-s", "3000k", "vg"], /power of 2/],
      [["vgchange", "-s", "16m", "same"], /not a perfect fit/],
      [["vgchange", "-p", "1", "vg"], /less than the current number 2 of PVs/],
      [["vgimportclone", "p0.dsk"], /missing PV/],
      [["vgimportclone", "p2.dsk", "p3.dsk"], /several groups/],
    ] as const)
      expect(await world.run([...command]), command.join(" ")).toMatchObject({
        code: expect.toSatisfy((code: number) => code > 0),
        stderr: expect.stringMatching(why),
      });
    for (const [i, bytes] of before.entries())
      expect(Buffer.compare(readFileSync(world.path(`p${i}.dsk`)), bytes), `p${i}.dsk`).toBe(0);
  });

  test("copies of a group's disks become a group of their own, also in two tries", async () => {
    const world = await worldWith(32, 32);
    await world.xvd("vgcreate", "vg", "p0.dsk", "p1.dsk");
    await world.xvd("lvcreate", "-i", "2", "-l", "4", "-n", "a", "vg");
    await world.xvd("io", "lvm:vg/a", "-c", "write -P 0x42 0 16M");
    for (const i of [0, 1]) copyFileSync(world.path(`p${i}.dsk`), world.path(`c${i}.dsk`));
    expect((await world.run(["vgs", "--devices", "p0.dsk,p1.dsk,c0.dsk"])).stderr).toMatch(/duplicate/i);
    const labels = readFileSync(world.path("c1.dsk")).subarray(0, 2048);
    await world.xvd("vgimportclone", "-n", "copy", "c0.dsk", "c1.dsk");
    // As a cut before the second label leaves it.
    const cut = readFileSync(world.path("c1.dsk"));
    cut.set(labels);
    writeFileSync(world.path("c1.dsk"), cut);
    const found = await world.run(["vgs", "copy", "--devices", "c0.dsk,c1.dsk"]);
    expect(found).toMatchObject({ code: 0, stderr: expect.stringMatching(/has the old uuid/) });
    await world.xvd("vgimportclone", "-n", "again", "c0.dsk", "c1.dsk");
    await world.xvd("io", "lvm:again/a", "-c", "read -P 0x42 0 16M", "-c", "write -P 0x43 0 1M");
    await world.xvd("io", "lvm:vg/a", "-c", "read -P 0x42 0 16M");
    await world.xvd("vgck");
    const ids = (await rows(world, "pvs", "-o", "pv_uuid")).map((row) => row.pv_uuid);
    expect(new Set(ids).size).toBe(4);
  });

  test("identities, tags and areas of physical volumes change and come back", async () => {
    const world = await worldWith(32, 32);
    await world.xvd("vgcreate", "vg", "p0.dsk", "p1.dsk");
    const pvs = () => rows(world, "pvs", "-o", "pv_uuid,pv_attr,pv_tags,pv_mda_used_count");
    const before = await pvs();
    for (const change of [
      ["pvchange", "-u", "p0.dsk"],
      ["pvchange", "-x", "n", "--addtag", "@slow", "-a"],
      ["pvchange", "--metadataignore", "y", "p1.dsk"],
      ["vgchange", "-u", "vg"],
      ["vgchange", "--addtag", "x", "--alloc", "anywhere", "-l", "7", "vg"],
      ["vgexport", "vg"],
    ]) {
      await world.xvd(...change);
      expect([await pvs(), await rows(world, "vgs", "-o", "vg_all")]).not.toEqual([before]);
      await world.xvd("vgck", "vg");
      await world.xvd("vgcfgrestore", "--last", "vg");
      if (change.includes("--metadataignore")) await world.xvd("pvchange", "--metadataignore", "n", "p1.dsk");
      expect(await pvs(), change.join(" ")).toEqual(before);
    }
    await world.xvd("vgexport", "vg");
    expect((await world.run(["lvcreate", "-l", "1", "vg"])).stderr).toMatch(/exported/);
    expect(await world.xvd("vgimport", "vg")).toContain("successfully imported");
    const none = await world.xvd("pvchange", "-x", "y", "p0.dsk");
    expect(none).toMatch(/already allocatable[\s\S]*0 physical volumes changed \/ 1 physical volume not changed/);
  });
});

describe("volumes whose devices are missing", () => {
  const away = (world: XvdWorld, name: string) => renameSync(world.path(name), world.path("away"));
  const back = (world: XvdWorld, name: string) => renameSync(world.path("away"), world.path(name));

  test("a change marks them; restored they are used again", async () => {
    const world = await worldWith(32, 32);
    await world.xvd("vgcreate", "vg", "p0.dsk", "p1.dsk");
    await world.xvd("lvcreate", "-l", "1", "-n", "a", "vg", "p0.dsk");
    await world.xvd("lvcreate", "-l", "1", "-n", "b", "vg", "p1.dsk");
    away(world, "p1.dsk");
    expect((await world.run(["lvcreate", "-l", "1", "vg"])).stderr).toMatch(
      /Cannot change VG vg while PVs are missing/i,
    );
    await world.xvd("lvchange", "--addtag", "x", "vg/b");
    back(world, "p1.dsk");
    expect((await rows(world, "pvs", "-o", "pv_attr")).map((row) => row.pv_attr)).toEqual(["a--", "a-m"]);
    expect((await world.run(["lvcreate", "-l", "1", "vg"])).stderr).toMatch(/while PVs are missing/);
    await world.xvd("vgextend", "--restoremissing", "vg", "p1.dsk");
    expect((await rows(world, "pvs", "-o", "pv_attr")).map((row) => row.pv_attr)).toEqual(["a--", "a--"]);
    await world.xvd("vgck", "vg");
  });

  test("they are taken out with what lies on them, which comes back by undo", async () => {
    const world = await worldWith(32, 32, 32);
    await world.xvd("vgcreate", "vg", "p0.dsk", "p1.dsk", "p2.dsk");
    await world.xvd("lvcreate", "-l", "1", "-n", "a", "vg", "p0.dsk");
    await world.xvd("lvcreate", "-l", "1", "-n", "b", "vg", "p1.dsk");
    expect(await world.xvd("vgreduce", "--removemissing", "vg")).toContain("is already consistent");
    away(world, "p1.dsk");
    expect(await world.run(["vgreduce", "--removemissing", "vg"])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/Partial LV b needs[\s\S]*still partial LVs in VG vg/),
    });
    expect(await world.xvd("vgreduce", "--removemissing", "--force", "vg")).toMatch(
      /Removing partial LV vg\/b[\s\S]*Wrote out consistent volume group vg/,
    );
    expect(await names(world)).toEqual(["a"]);
    back(world, "p1.dsk");
    expect((await world.run(["vgck", "vg"])).stderr).toMatch(/outdated PV .*p1.dsk/);
    await world.xvd("vgcfgrestore", "--last", "vg");
    expect(await names(world)).toEqual(["a", "b"]);
    await world.xvd("vgck", "vg");
    away(world, "p1.dsk");
    await world.xvd("vgreduce", "--removemissing", "--force", "vg");
    back(world, "p1.dsk");
    expect(await world.xvd("vgck", "--updatemetadata", "vg")).toContain("wiping mda on outdated PV");
    await world.xvd("vgck");
    expect((await rows(world, "pvs", "-o", "vg_name")).map((row) => row.vg_name)).toEqual(["vg", "", "vg"]);
  });
});
