/** A pvmove that LVM2 was killed in is finished by us, and one of ours by LVM2. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { planBeginPvmove } from "#src/lvm/changes/pvmove.js";
import { newId } from "#src/lvm/id.js";
import { findVolume } from "#src/lvm/metadata.js";
import { xvdPaths } from "#src/os/xvd-paths.js";
import { changeGroup, type LvmContext } from "#src/stack/lvm/change.js";
import { seededRandom } from "../lvm/support.js";
import { disk, rows } from "../lvm/world.js";
import { tempDir } from "../support/temp-dir.js";
import { type XvdWorld, xvdWorld } from "../support/xvd.js";
import { haveKernel, runInKernel } from "./kernel-uml.js";

async function group(): Promise<{ world: XvdWorld; disks: string[] }> {
  const world = xvdWorld();
  for (const name of ["p0.dsk", "p1.dsk", "p2.dsk"]) disk(world, name, 100 << 20);
  await world.xvd("vgcreate", "-s", "1M", "vg", "p0.dsk", "p1.dsk", "p2.dsk");
  await world.xvd("lvcreate", "-L", "30M", "-n", "a", "vg", "p0.dsk");
  await world.xvd("lvcreate", "-i", "2", "-L", "10M", "-n", "s", "vg", "p0.dsk", "p1.dsk");
  await world.xvd("lvextend", "-L", "+6M", "vg/a", "p0.dsk");
  for (const [i, name] of ["a", "s"].entries())
    await world.xvd("io", `lvm:vg/${name}`, "-c", `write -P 0x3${i} 0 4M`, "-c", `write -P 0x4${i} 7M 3M`);
  return { world, disks: ["p0.dsk", "p1.dsk", "p2.dsk"].map((name) => world.path(name)) };
}

const digests = async (world: XvdWorld) => [
  await world.xvd("checksum", "lvm:vg/a"),
  await world.xvd("checksum", "lvm:vg/s"),
];
const devices = async (world: XvdWorld) =>
  (await rows(world, "lvs", "-a", "-o", "lv_name,devices", "vg")).map((row) => Object.values(row).join(" "));

describe.skipIf(!haveKernel("lvs"))("pvmove", () => {
  test("LVM2 loses its power in the middle, we go on; another time we give up", async () => {
    for (const [end, left] of [
      [["pvmove"], /p2\.dsk/],
      [["pvmove", "--abort"], /./],
    ] as const) {
      const { world, disks } = await group();
      const before = await digests(world);
      const folder = tempDir();
      await runInKernel({
        disks,
        folder,
        script: `vgchange -q -ay vg
pvmove -b -i 1 /dev/ubda /dev/ubdc
sleep 0.3; vgcfgbackup -q -f /mnt/begun.vg vg; sync; echo o > /proc/sysrq-trigger; sleep 9`,
        killAfterMs: 40_000,
      });
      expect(readFileSync(`${folder}/begun.vg`, "utf8")).toContain("pvmove0");
      const shown = await devices(world);
      if (shown.some((line) => line.includes("pvmove0"))) expect(await digests(world)).toEqual(before);
      await world.xvd(...end);
      expect(await digests(world)).toEqual(before);
      const after = await devices(world);
      expect(after.some((line) => line.includes("pvmove0"))).toBe(false);
      expect(after.join()).toMatch(left);
      await world.xvd("vgck", "vg");
    }
  });

  test("ours, begun and half done, is finished by LVM2", async () => {
    const { world, disks } = await group();
    const before = await digests(world);
    const context: LvmContext = {
      paths: xvdPaths({ XVD_HOME: world.env.XVD_HOME!, XVD_RUN: world.env.XVD_RUN! }, undefined),
      random: seededRandom(8),
      now: 1,
      host: "here",
      command: "test",
      warn: () => {},
    };
    const options = { devices: disks };
    await changeGroup(context, "vg", options, ({ group: found }) => {
      const begun = planBeginPvmove(found, {
        from: [{ pv: "pv0", first: 0, count: found.physicalVolumes[0]!.peCount }],
        to: [{ pv: "pv2", first: 0, count: found.physicalVolumes[2]!.peCount }],
        id: newId(context.random),
        time: 1,
        host: "here",
      });
      expect(findVolume(begun.group, begun.name).segments.length).toBeGreaterThan(2);
      return begun;
    });
    expect(await digests(world)).toEqual(before);
    const output = await runInKernel({
      disks,
      script: `vgck vg; vgchange -q -ay vg; pvmove -i 1; lvs -a --noheadings -o lv_name,devices vg; vgchange -q -an vg`,
    });
    expect(output).not.toMatch(/\[pvmove0\]/);
    expect(output).toMatch(/a\s+\/dev\/ubdc/);
    expect(await digests(world)).toEqual(before);
    expect((await devices(world)).join()).not.toMatch(/pvmove0|p0\.dsk/);
  });
});
