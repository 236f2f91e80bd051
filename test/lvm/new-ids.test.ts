/** Copies of a disk with identities of their own, down to the file systems in its volumes. */
import { execFileSync } from "node:child_process";
import { truncateSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { havePeer } from "../support/peers.js";
import { xvdWorld } from "../support/xvd.js";
import { disk, rows } from "./world.js";

test.skipIf(!havePeer("mke2fs", "e2fsck"))(
  "a guest's disk with a group on two partitions, and its copy beside it",
  async () => {
    const world = xvdWorld();
    disk(world, "guest.dsk", 96 << 20);
    writeFileSync(world.path("layout"), "lvm:40M,lvm:*");
    await world.xvd("part", "apply", "guest.dsk", "layout");
    await world.xvd("vgcreate", "-s", "1m", "vg0", "guest.dsk#p1", "guest.dsk#p2");
    await world.xvd("lvcreate", "-i", "2", "-L", "32M", "-n", "root", "vg0");
    writeFileSync(world.path("fs.img"), "");
    truncateSync(world.path("fs.img"), 32 << 20);
    execFileSync("mke2fs", ["-q", "-t", "ext4", world.path("fs.img")]);
    await world.xvd("convert", "--force", "fs.img", "lvm:vg0/root");
    const cloned = await world.json<{ clones: { ids: { what: string; old: string; new: string }[] }[] }>(
      "clone",
      "--new-ids",
      "guest.dsk",
      "copy.dsk",
    );
    const { ids } = cloned.clones[0]!;
    for (const what of ["VG vg0 UUID", "p1: PV UUID", "p2: PV UUID", "LV vg0/root UUID", "vg0/root: ext4 UUID"])
      expect(ids.find((id) => id.what === what)?.new, what).toMatch(/\w{4}/);
    for (const id of ids) expect(id.new).not.toBe(id.old);
    const both = ["--devices", "guest.dsk,copy.dsk"];
    const groups = await rows(world, "vgs", "-o", "vg_name,vg_uuid,pv_count", ...both);
    expect(groups.map(({ vg_name, pv_count }) => [vg_name, pv_count])).toEqual([
      ["vg0", "2"],
      ["vg0", "2"],
    ]);
    expect((await world.run(["vgck", "--devices", "copy.dsk"])).stderr).toBe("");
    await world.xvd("convert", "copy.dsk#vg0/root", "root.img");
    execFileSync("e2fsck", ["-fn", world.path("root.img")], { stdio: "ignore" });
    expect((await world.run(["lvs", ...both])).stderr).toBe("");
  },
);

test("a group that also lies on other disks keeps its identities, and is told", async () => {
  const world = xvdWorld();
  for (const name of ["a.dsk", "b.dsk"]) disk(world, name, 16 << 20);
  await world.xvd("vgcreate", "vg", "a.dsk", "b.dsk");
  const result = await world.run(["clone", "--new-ids", "a.dsk", "copy.dsk"]);
  expect(result).toMatchObject({ code: 0, stderr: expect.stringMatching(/vgimportclone/) });
  expect((await world.run(["vgs", "--devices", "a.dsk,b.dsk,copy.dsk"])).stderr).toMatch(/duplicate/i);
});
