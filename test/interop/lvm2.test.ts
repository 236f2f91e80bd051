/** LVM2 judges what we write, and we read what it writes. */
import { execFileSync } from "node:child_process";
import { truncateSync, writeFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { havePeer } from "../support/peers.js";
import { type XvdWorld, xvdWorld } from "../support/xvd.js";
import { haveLvm2, type Lvm2, lvm2In } from "./lvm2-support.js";

const MIB = 1 << 20;
const open: Lvm2[] = [];

afterEach(() => {
  for (const lvm2 of open.splice(0)) lvm2.detach();
});

function lvm2For(world: XvdWorld): Lvm2 {
  const lvm2 = lvm2In(world.path("lvm2"));
  open.push(lvm2);
  return lvm2;
}

function disk(world: XvdWorld, name: string, size: number): string {
  writeFileSync(world.path(name), "");
  truncateSync(world.path(name), size);
  return name;
}

const VOLUME_FIELDS =
  "lv_uuid,lv_name,lv_full_name,lv_parent,lv_layout,lv_role,lv_allocation_policy,lv_skip_activation,lv_autoactivation,lv_size,seg_count,lv_tags,lv_host,lv_time,segtype,stripes,stripe_size,region_size,seg_start_pe,seg_size_pe,seg_pe_ranges,devices,mirror_log,origin";
const GROUP_FIELDS =
  "vg_uuid,vg_name,vg_attr,vg_size,vg_free,vg_extent_size,vg_extent_count,vg_free_count,max_lv,max_pv,pv_count,lv_count,snap_count,vg_seqno,vg_tags,vg_mda_count,vg_mda_size,vg_allocation_policy";
const PV_FIELDS =
  "pv_uuid,pv_name,dev_size,pv_mda_size,pe_start,pv_size,pv_free,pv_used,pv_attr,pv_pe_count,pv_pe_alloc_count,pv_mda_count,pv_ba_start,pv_ba_size,pv_in_use";

/** Both reports of all fields, with the devices' names made the same. */
async function expectSameReports(world: XvdWorld, lvm2: Lvm2, devices: Record<string, string>): Promise<void> {
  for (const [command, fields, sort] of [
    ["lvs", VOLUME_FIELDS, "lv_full_name,seg_start_pe"],
    ["vgs", GROUP_FIELDS, "vg_name"],
    ["pvs", PV_FIELDS, "pv_uuid"],
  ] as const) {
    const args = [...(command === "lvs" ? ["-a"] : []), "-o", fields, "-O", sort];
    const text = await world.xvd(
      command,
      ...args,
      "--reportformat",
      "json",
      "--devices",
      Object.keys(devices).join(","),
    );
    const renamed = Object.entries(devices).reduce(
      (all, [ours, theirs]) => all.replaceAll(world.path(ours), theirs),
      text,
    );
    const report = JSON.parse(renamed).report[0];
    expect(report[Object.keys(report)[0]!], command).toEqual(lvm2.report(command, ...args));
  }
}

describe.skipIf(!haveLvm2)("LVM2", () => {
  test.each([
    ["64k", 512],
    ["4m", 512],
    ["384k", 4096],
  ] as const)("accepts and changes our groups, extents of %s, sectors of %i", async (extent, sectorSize) => {
    const world = xvdWorld();
    for (const [name, size] of [
      ["p0.dsk", 80],
      ["p1.dsk", 65],
      ["p2.dsk", 64],
    ] as const)
      disk(world, name, size * MIB);
    await world.xvd("part", "init", "p2.dsk", "gpt");
    await world.xvd("part", "add", "p2.dsk", "--size", "60M", "--type", "lvm");
    await world.xvd("pvcreate", "--pvmetadatacopies", "2", "p0.dsk");
    await world.xvd("pvcreate", "--bootloaderareasize", "1m", "--dataalignment", "64k", "p1.dsk");
    await world.xvd("vgcreate", "-s", extent, "--addtag", "made.here", "vg0", "p0.dsk", "p1.dsk", "p2.dsk#p1");
    await world.xvd("lvcreate", "-l", "2", "-n", "lin", "vg0");
    await world.xvd("lvcreate", "-i", "3", "-I", "16k", "-l", "9", "-n", "str", "vg0");
    await world.xvd("lvcreate", "--type", "zero", "-l", "100", "-n", "zero", "vg0");
    await world.xvd("lvcreate", "-l", "1", "-pr", "-kn", "-n", "ro", "--addtag", "t", "vg0", "p1.dsk:3-");
    await world.xvd("lvextend", "-l", "+2", "vg0/lin", "p2.dsk#p1");
    const lvm2 = lvm2For(world);
    lvm2.attach("p0", world.path("p0.dsk"), { sectorSize });
    lvm2.attach("p1", world.path("p1.dsk"), { sectorSize });
    lvm2.attach("p2", world.path("p2.dsk"), { offset: MIB, size: 60 * MIB, sectorSize });
    const devices = { "p0.dsk": "p0", "p1.dsk": "p1", "p2.dsk#p1": "p2" };
    expect(lvm2.run("vgck", "vg0")).toBe("");
    await expectSameReports(world, lvm2, devices);
    lvm2.run("lvchange", "--addtag", "rewritten", "vg0/str"); // parses, judges and writes all of it
    lvm2.run("lvcreate", "-y", "-an", "-Zn", "-Wn", "-l", "3", "-n", "theirs", "vg0");
    await expectSameReports(world, lvm2, devices);
    await world.xvd("lvremove", "vg0/theirs", "vg0/ro");
    await world.xvd("vgrename", "vg0", "vg1");
    lvm2.run("vgck", "vg1");
    await expectSameReports(world, lvm2, devices);
  });

  test("its mirrors, raid0 and snapshots are shown as it shows them, and what we change it accepts", async () => {
    const world = xvdWorld();
    const lvm2 = lvm2For(world);
    const paths = [0, 1, 2].map((i) => lvm2.attach(`p${i}`, world.path(disk(world, `p${i}.dsk`, 64 * MIB))));
    const devices = { "p0.dsk": "p0", "p1.dsk": "p1", "p2.dsk": "p2" };
    lvm2.run("pvcreate", "-y", ...paths);
    lvm2.run("vgcreate", "-s", "1m", "vg", ...paths);
    const create = (...args: string[]) => lvm2.run("lvcreate", "-y", "-an", "-Zn", "-Wn", ...args, "vg");
    create("-l", "6", "-n", "mir");
    lvm2.run("lvconvert", "-y", "--type", "mirror", "-m1", "vg/mir");
    create("-l", "4", "-n", "base");
    create("-l", "2", "-n", "cow");
    lvm2.run("lvconvert", "-y", "-Zn", "--type", "snapshot", "vg/base", "vg/cow");
    create("--type", "raid0", "-i", "2", "-l", "4", "-n", "r0");
    create("--type", "error", "-l", "4", "-n", "bad");
    await expectSameReports(world, lvm2, devices);
    for (const name of Object.keys(devices)) await world.xvd("lvmdevices", "--adddev", name);
    await world.xvd("lvrename", "vg", "mir", "mirror2");
    await world.xvd("lvrename", "vg", "base", "origin2");
    await world.xvd("io", "lvm:vg/r0", "-c", "write -P 0x31 0 4M", "-c", "read -P 0x31 0 4M");
    lvm2.run("vgck", "vg");
    await expectSameReports(world, lvm2, devices);
    await world.xvd("lvremove", "vg/mirror2", "vg/r0");
    lvm2.run("vgck", "vg");
    await expectSameReports(world, lvm2, devices);
  });
});

describe.skipIf(!havePeer("pvck"))("pvck reads our disks without root", () => {
  test("headers and text", async () => {
    const world = xvdWorld();
    disk(world, "p0.dsk", 8 * MIB);
    await world.xvd("vgcreate", "vg0", "p0.dsk");
    await world.xvd("lvcreate", "-l", "1", "-n", "a", "vg0");
    const pvck = (...args: string[]) =>
      execFileSync("pvck", ["--driverloaded", "n", ...args], {
        encoding: "utf8",
        cwd: world.dir,
        env: { ...process.env, LVM_SUPPRESS_FD_WARNINGS: "1" },
        stdio: ["ignore", "pipe", "ignore"],
      });
    const theirs = pvck("--dump", "headers", "p0.dsk");
    expect(await world.xvd("pvck", "--dump", "headers", "p0.dsk")).toBe(theirs);
    expect(await world.xvd("pvck", "--dump", "metadata_search", "p0.dsk")).toBe(
      pvck("--dump", "metadata_search", "p0.dsk"),
    );
    expect(pvck("--dump", "metadata", "p0.dsk")).toContain("segment_count = 1");
  });
});
