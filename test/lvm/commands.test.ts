/** The commands as users run them: from empty disks to volumes, reports, what is refused. */
import { closeSync, copyFileSync, openSync, truncateSync, writeSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { xvdWorld } from "../support/xvd.js";
import { disk, group, rows } from "./world.js";

test("from empty disks to volumes and back", async () => {
  const world = xvdWorld();
  for (const name of ["p0.dsk", "p1.dsk", "p2.dsk"]) disk(world, name);
  await world.xvd("part", "init", "p2.dsk", "gpt");
  await world.xvd("part", "add", "p2.dsk", "--type", "lvm");
  const created = await world.xvd("pvcreate", "p0.dsk", "p1.dsk", "p2.dsk#p1");
  expect(created.split("\n")[2]).toBe('  Physical volume "p2.dsk#p1" successfully created.');
  await world.xvd("vgcreate", "-s", "1m", "vg0", "p0.dsk", "p1.dsk", "p2.dsk#p1");
  expect(await world.xvd("lvcreate", "-L", "10.5M", "-n", "lin", "vg0")).toBe(
    '  Rounding up size to full physical extent 11.00 MiB\n  Logical volume "lin" created.\n',
  );
  await world.xvd("lvcreate", "-i", "2", "-I", "16k", "-l", "8", "-n", "str", "vg0", "p0.dsk:20-", "p1.dsk");
  expect(await rows(world, "lvs", "-o", "lv_name,segtype,seg_pe_ranges", "--segments")).toEqual([
    { lv_name: "lin", segtype: "linear", seg_pe_ranges: `${world.path("p0.dsk")}:0-10` },
    { lv_name: "str", segtype: "striped", seg_pe_ranges: `${world.path("p0.dsk")}:20-23 ${world.path("p1.dsk")}:0-3` },
  ]);
  await world.xvd("io", "lvm:vg0/str", "-c", "write -P 0x5a 0 8M");
  await world.xvd("lvextend", "-L", "+4M", "vg0/str");
  await world.xvd("lvrename", "vg0", "str", "data");
  await world.xvd("vgrename", "vg0", "vg1");
  await world.xvd("io", "lvm:vg1/data", "-c", "read -P 0x5a 0 8M", "-c", "read -P 0 8M 4M");
  expect(
    await world.xvd(
      "vgs",
      "--noheadings",
      "-o",
      "vg_name,lv_count,vg_free,vg_seqno",
      "--units",
      "m",
      "--separator",
      ":",
    ),
  ).toBe("  vg1:2:164.00m:6\n");
  await world.xvd("vgck", "vg1");
  expect((await world.run(["vgremove", "vg1"])).stderr).toMatch(/contains 2 logical volumes, allowed with --yes/);
  await world.xvd("vgremove", "-y", "vg1");
  await world.xvd("pvremove", "p0.dsk", "p1.dsk", "p2.dsk#p1");
  expect([await world.xvd("pvs"), await world.xvd("lvmdevices")]).toEqual(["", ""]);
});

test("a volume within one disk, by the disk's name alone", async () => {
  const world = xvdWorld();
  disk(world, "one.dsk");
  await world.xvd("part", "init", "one.dsk", "gpt");
  await world.xvd("part", "add", "one.dsk", "--type", "lvm");
  await world.xvd("vgcreate", "guest", "one.dsk#p1");
  await world.xvd("lvcreate", "-L", "8M", "-n", "root", "guest");
  await world.xvd("lvmdevices", "--deldev", "one.dsk#p1");
  await world.xvd("io", "one.dsk#guest/root", "-c", "write -P 0x11 0 1M", "-c", "read -P 0x11 0 1M");
  expect(await rows(world, "lvs", "--devices", "one.dsk", "-o", "lv_full_name")).toEqual([
    { lv_full_name: "guest/root" },
  ]);
  const info = await world.json<{ volumes: { name: string; size: number }[] }>("info", "one.dsk");
  expect(info.volumes).toMatchObject([{ name: "guest/root", size: 8 << 20, type: "linear" }]);
  expect(await world.xvd("info", "one.dsk")).toMatch(/guest\/root +8 MiB +linear/);
  expect((await world.run(["io", "lvm:guest/root", "-c", "read 0 1k"])).stderr).toMatch(/no devices are registered/);
});

describe("what is wrong is named", () => {
  test("clones, missing disks, damaged metadata", async () => {
    const world = xvdWorld();
    await group(world);
    await world.xvd("lvcreate", "-l", "4", "-n", "a", "vg0", "p0.dsk");
    copyFileSync(world.path("p0.dsk"), world.path("c0.dsk"));
    const clones = ["--devices", "p0.dsk,p1.dsk,p2.dsk,c0.dsk"];
    expect((await world.run(["vgs", ...clones])).stderr).toMatch(
      /Not using device .*c0\.dsk for PV .* duplicate of .*p0\.dsk/,
    );
    expect((await world.run(["lvremove", "vg0/a", ...clones])).stderr).toMatch(
      /annot update volume group vg0 with duplicate PV devices/,
    );
    const partial = ["--devices", "p1.dsk,p2.dsk"];
    expect((await rows(world, "lvs", "-o", "lv_attr,lv_health_status", ...partial))[0]).toEqual({
      lv_attr: "-wi-----p-",
      lv_health_status: "partial",
    });
    expect((await rows(world, "pvs", "-o", "pv_name,pv_attr", ...partial))[0]).toMatchObject({
      pv_name: world.path("p1.dsk"),
    });
    expect((await world.run(["lvextend", "-l", "+1", "vg0/a", ...partial])).stderr).toMatch(
      /annot change VG vg0 while PVs are missing/,
    );
    const fd = openSync(world.path("p0.dsk"), "r+");
    writeSync(fd, Buffer.alloc(512, 7), 0, 512, 4096);
    closeSync(fd);
    expect(await world.run(["vgck", "vg0"])).toMatchObject({ code: 1, stderr: expect.stringMatching(/checksum/) });
    expect((await world.run(["vgs", "vg0"])).code).toBe(0);
    await world.xvd("vgck", "--updatemetadata", "vg0");
    expect((await world.run(["vgck", "vg0"])).stderr).toBe("");
  });

  test("disks that hold something are not taken without being asked for", async () => {
    const world = xvdWorld();
    await group(world);
    disk(world, "swap.dsk");
    const fd = openSync(world.path("swap.dsk"), "r+");
    writeSync(fd, "SWAPSPACE2", 4086);
    writeSync(fd, Uint8Array.of(1, 0, 0, 0, 255, 63, 0, 0), 0, 8, 1024);
    closeSync(fd);
    const refused = async (args: string[], pattern: RegExp) =>
      expect(await world.run(args), args.join(" ")).toMatchObject({ code: 1, stderr: expect.stringMatching(pattern) });
    await refused(["pvcreate", "swap.dsk"], /a swap signature is on it, allowed with --yes/);
    await refused(
      ["pvcreate", "p0.dsk"],
      /Can't initialize physical volume "p0\.dsk" of volume group "vg0" without -ff|can't initialize/i,
    );
    await refused(["pvcreate", "p2.dsk"], /device is partitioned/);
    await refused(["pvremove", "p0.dsk"], /is used by VG vg0 so please use vgreduce first/);
    await refused(["vgcreate", "other", "p0.dsk"], /already in volume group 'vg0'/);
    await refused(["vgcreate", "vg0", "swap.dsk"], /A volume group called vg0 already exists/);
    await refused(["lvs", "nope"], /Volume group "nope" not found/);
    await refused(["lvs", "vg0/nope"], /Failed to find logical volume "vg0\/nope"/);
    await refused(["lvcreate", "-L", "5G", "-n", "big", "vg0"], /insufficient free space/);
    expect((await world.run(["lvcreate", "-n", "x", "vg0"])).code).toBe(2);
    expect((await world.run(["lvs", "-o", "nonsense"])).code).toBe(2);
    await world.xvd("pvcreate", "-y", "swap.dsk");
    await world.xvd("vgextend", "vg0", "swap.dsk");
    truncateSync(world.path("swap.dsk"), 96 << 20);
    await world.xvd("pvresize", "swap.dsk");
    expect((await rows(world, "pvs", "-o", "pv_pe_count", "swap.dsk"))[0]).toEqual({ pv_pe_count: "23" });
    await world.xvd("vgreduce", "vg0", "swap.dsk");
    await world.xvd("pvremove", "swap.dsk");
  });
});

test("a report chooses, sorts and selects", async () => {
  const world = xvdWorld();
  await group(world);
  for (const [name, size] of [
    ["small", "4M"],
    ["large", "40M"],
    ["mid", "12M"],
  ] as const)
    await world.xvd("lvcreate", "-L", size, "-n", name, "vg0", "--addtag", `t_${name}`);
  const list = async (...args: string[]) =>
    (await world.xvd("lvs", "--noheadings", "-o", "lv_name", ...args))
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
  expect(await list("-O", "-lv_size")).toEqual(["large", "mid", "small"]);
  expect(await list("-S", "lv_size>8m && lv_size<=12m")).toEqual(["mid"]);
  expect(await list("-S", "lv_name=~^.*l || lv_tags=t_mid", "-O", "size")).toEqual(["small", "mid", "large"]);
  expect(await list("-S", "!(segtype=linear && size>=12)")).toEqual(["small"]);
  expect(await world.run(["lvs", "-S", "size>>1"])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("cannot read selection"),
  });
  expect(await world.xvd("vgs", "-o", "name,free", "--units", "B", "--nosuffix", "--separator", ",")).toMatch(
    /^ {2}VG,VFree\n {2}vg0,\d+\n$/,
  );
  expect(JSON.parse(await world.xvd("vgs", "-o", "vg_name", "--json"))).toEqual({
    report: [{ vg: [{ vg_name: "vg0" }] }],
  });
});
