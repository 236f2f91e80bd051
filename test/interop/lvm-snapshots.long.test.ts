/** Old-style snapshots and a real kernel: each reads what the other wrote, and finishes what the other began. */
import { describe, expect, test } from "vitest";
import { disk, rows } from "../lvm/world.js";
import { type XvdWorld, xvdWorld } from "../support/xvd.js";
import { haveKernel, runInKernel } from "./kernel-uml.js";

/** The digests of volumes, as the kernel sees them. */
const digests = (...names: string[]) =>
  names.map((name) => `echo ${name} $(sha256sum < /dev/vg/${name} | cut -d' ' -f1)`).join("\n");

async function ours(world: XvdWorld, ...names: string[]): Promise<string[]> {
  const lines: string[] = [];
  for (const name of names) {
    await world.xvd("convert", "--force", `lvm:vg/${name}`, "out.img");
    const { createHash } = await import("node:crypto");
    const { readFileSync } = await import("node:fs");
    lines.push(
      `${name} ${createHash("sha256")
        .update(readFileSync(world.path("out.img")))
        .digest("hex")}`,
    );
  }
  return lines;
}

async function group(): Promise<{ world: XvdWorld; disks: string[] }> {
  const world = xvdWorld();
  for (const name of ["p0.dsk", "p1.dsk"]) disk(world, name);
  await world.xvd("vgcreate", "-s", "1M", "vg", "p0.dsk", "p1.dsk");
  await world.xvd("lvcreate", "-L", "12M", "-n", "lin", "vg");
  await world.xvd("io", "lvm:vg/lin", "-c", "write -P 0x11 0 6M", "-c", "write -P 0x22 6M 6M");
  return { world, disks: [world.path("p0.dsk"), world.path("p1.dsk")] };
}

const kernel = (job: { script: string; disks: string[]; killAfterMs?: number }) => runInKernel(job);
const found = (output: string) => output.split("\n").filter((line) => /^\w+ [0-9a-f]{64}$/.test(line));

describe.skipIf(!haveKernel("lvs"))("snapshots", () => {
  test("ours in the kernel, changed there on both sides, and read again by us", async () => {
    const { world, disks } = await group();
    await world.xvd("lvcreate", "-s", "-L", "8M", "-n", "a", "vg/lin");
    await world.xvd("lvcreate", "-s", "-L", "8M", "-c", "64k", "-n", "b", "vg/lin");
    await world.xvd("io", "lvm:vg/lin", "-c", "write -P 0x33 1M 1500k");
    await world.xvd("io", "lvm:vg/a", "-c", "write -P 0x44 3000k 300k");
    const before = await ours(world, "lin", "a", "b");
    const percent = (row: Record<string, string>) => `${row.lv_name} ${row.snap_percent}`;
    const usage = (await rows(world, "lvs", "-o", "lv_name,snap_percent", "vg")).map(percent);
    const output = await kernel({
      disks,
      script: `vgchange -q -ay vg
${digests("lin", "a", "b")}
lvs --noheadings -o lv_name,snap_percent vg
yes kernel | dd of=/dev/vg/lin bs=64k seek=40 count=17 iflag=fullblock oflag=direct conv=notrunc status=none
yes snap | dd of=/dev/vg/b bs=4k seek=1000 count=99 iflag=fullblock oflag=direct conv=notrunc status=none
sync
${digests("lin", "a", "b").replaceAll("echo ", "echo after-")}
lvs --noheadings -o lv_name,snap_percent vg | sed 's/^/after /'
vgchange -q -an vg; vgck vg`,
    });
    expect(found(output)).toEqual(before);
    const shown = output.split("\n").map((line) => line.trim().replace(/\s+/g, " "));
    for (const line of usage) expect(shown).toContain(line.trim());
    const after = shown.filter((line) => line.startsWith("after-")).map((line) => line.slice("after-".length));
    expect(await ours(world, "lin", "a", "b")).toEqual(after);
    for (const row of await rows(world, "lvs", "-o", "lv_name,snap_percent", "vg"))
      expect(shown).toContain(`after ${percent(row)}`.trim());
    // And what the kernel wrote is a store that we go on with.
    await world.xvd("io", "lvm:vg/lin", "-c", "write -P 0x55 10M 1M");
    expect((await ours(world, "a", "b")).toSorted()).toEqual(
      after.filter((line) => !line.startsWith("lin")).toSorted(),
    );
  });

  test("the kernel's snapshots, and one of them overflowed", async () => {
    const { world, disks } = await group();
    const output = await kernel({
      disks,
      script: `vgchange -q -ay vg
lvcreate -q -y -s -L 8M -n a vg/lin; lvcreate -q -y -s -L 1M -n small vg/lin
yes kernel | dd of=/dev/vg/lin bs=64k seek=10 count=40 iflag=fullblock oflag=direct conv=notrunc status=none; sync
${digests("lin", "a")}
vgchange -q -an vg`,
    });
    expect(await ours(world, "lin", "a")).toEqual(found(output));
    const listed = await rows(world, "lvs", "-o", "lv_name,lv_attr,snap_percent,lv_snapshot_invalid", "vg");
    expect(listed).toEqual([
      { lv_name: "a", lv_attr: "swi---s---", snap_percent: expect.any(String), lv_snapshot_invalid: "" },
      { lv_name: "lin", lv_attr: "owi---s---", snap_percent: "", lv_snapshot_invalid: "" },
      { lv_name: "small", lv_attr: "swi-I-s---", snap_percent: "100.00", lv_snapshot_invalid: "snapshot invalid" },
    ]);
    expect(await world.run(["checksum", "lvm:vg/small"])).toMatchObject({ code: 1 });
  });

  test("our overflow is the kernel's, our merge is finished by it, and its merge by us", async () => {
    const { world, disks } = await group();
    await world.xvd("lvcreate", "-s", "-L", "1M", "-n", "small", "vg/lin");
    await world.xvd("lvcreate", "-s", "-L", "8M", "-n", "a", "vg/lin");
    const { stderr } = await world.run(["io", "lvm:vg/lin", "-c", "write -P 0x33 1M 2M"]);
    expect(stderr).toMatch(/Snapshot small is invalid/);
    await world.xvd("io", "lvm:vg/a", "-c", "write -P 0x44 7M 300k");
    const [snapshot] = await ours(world, "a");
    await world.xvd("lvconvert", "--merge", "-b", "vg/a");
    expect((await ours(world, "lin"))[0]).toBe(snapshot!.replace(/^a/, "lin"));
    const output = await kernel({
      disks,
      script: `vgchange -q -ay vg
lvs --noheadings -o lv_name,lv_attr vg
${digests("lin")}
for i in $(seq 50); do lvs vg/a >/dev/null 2>&1 || break; lvchange --poll y vg/lin; sleep 0.2; done
${digests("lin").replace("echo ", "echo merged")}
lvs -a --noheadings -o lv_name vg | sed 's/^/left/'
lvremove -q -y vg/small
lvcreate -q -y -s -L 8M -n k vg/lin
yes kernel | dd of=/dev/vg/k bs=64k seek=10 count=40 iflag=fullblock oflag=direct conv=notrunc status=none; sync
${digests("k")}
exec 9</dev/vg/lin; lvconvert --merge vg/k; exec 9<&-
vgchange -q -an vg`,
    });
    const [lin, merged, k] = found(output);
    expect(lin).toBe(snapshot!.replace(/^a/, "lin"));
    expect(merged).toBe(snapshot!.replace(/^a/, "mergedlin"));
    expect(output).not.toMatch(/left\s*\[?a\]?\s/);
    expect(output).toMatch(/small\s+swi-I-s---/);
    expect((await ours(world, "lin"))[0]).toBe(k!.replace(/^k/, "lin"));
    await world.xvd("lvconvert", "--merge", "vg/k");
    expect((await ours(world, "lin"))[0]).toBe(k!.replace(/^k/, "lin"));
    expect((await rows(world, "lvs", "-a", "vg")).map(({ lv_name }) => lv_name)).toEqual(["lin"]);
  });
});
