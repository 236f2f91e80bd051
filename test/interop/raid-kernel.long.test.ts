/** A real kernel assembles our RAID volumes and mirrors without a resync, agrees with every byte and parity, and makes alike what a crash of ours left. */
import { createHash } from "node:crypto";
import { cpSync } from "node:fs";
import { expect, test } from "vitest";
import { openFileDevice } from "#src/block/file.js";
import { openVolume } from "#src/lvm/activate.js";
import { devicesOf, scanDevices } from "#src/lvm/scan.js";
import { disk } from "../lvm/world.js";
import { xvdWorld } from "../support/xvd.js";
import { haveKernel, runInKernel } from "./kernel-uml.js";

const MIB = 1 << 20;
const TYPES = [
  ...["raid1 -m 1", "raid10 -i 2", "raid4 -i 3", "raid5 -i 3", "raid5_la -i 3", "raid5_ra -i 3", "raid5_rs -i 3"],
  ...["raid5_n -i 3", "raid6 -i 3", "raid6_nr -i 3", "raid6_nc -i 3", "raid6_n_6 -i 3", "raid6_la_6 -i 3"],
  ...["raid6_ls_6 -i 3", "raid6_ra_6 -i 3", "raid6_rs_6 -i 3", "mirror -m 1", "mirror --mirrorlog core -m 1"],
];
const DISKS = ["p0.dsk", "p1.dsk", "p2.dsk", "p3.dsk", "p4.dsk"];

const hashOf = (contents: Uint8Array) => createHash("sha256").update(contents).digest("hex");

test.skipIf(!haveKernel("lvm", "dmsetup"))("all types, clean and after a crash", { timeout: 600_000 }, async () => {
  const world = xvdWorld();
  for (const name of DISKS) disk(world, name, 64 * MIB);
  await world.xvd("vgcreate", "-s", "64k", "vg", ...DISKS);
  const contents = new Uint8Array(36 << 16);
  contents.fill(0x41, 0, MIB).fill(0x42, MIB + 3 * 1024, MIB + 7 * 1024);
  const names = TYPES.map((_, i) => `lv${i}`);
  for (const [i, type] of TYPES.entries()) {
    const stripe = type.includes("-i") ? ["-I", "4k"] : [];
    await world.xvd("lvcreate", "--type", ...type.split(" "), ...stripe, "-l", "36", "-n", names[i]!, "vg");
  }
  await world.xvd("lvcreate", "--type", "raid1", "-m", "1", "-l", "36", "-n", "joining", "vg", "p0.dsk", "p1.dsk");
  for (const name of ["crash1", "crash5"])
    await world.xvd(
      ...["lvcreate", "--type", ...(name === "crash1" ? ["raid1"] : ["raid5", "-I", "4k"])],
      ...["-R", "64k", "-l", "36", "-n", name, "vg"],
    );
  const open = async (folder: string, lv: string) => {
    const candidates = await Promise.all(
      DISKS.map(async (name) => ({ name, device: await openFileDevice(`${folder}/${name}`, { writable: true }) })),
    );
    const { group, members } = (await scanDevices(candidates)).groups[0]!;
    return { group, device: await openVolume(group, lv, devicesOf(members), { writable: true }), candidates };
  };
  const folder = world.path(".");
  for (const name of [...names, "joining", "crash1", "crash5"]) {
    const { device, candidates } = await open(folder, name);
    await device.write(0, contents.subarray(0, MIB));
    await device.write(MIB + 3 * 1024, contents.subarray(MIB + 3 * 1024, MIB + 7 * 1024));
    await device.close();
    for (const candidate of candidates) await candidate.device.close();
  }
  await world.xvd("lvconvert", "-b", "-m", "+1", "vg/joining");
  // A crash: a write is on the first leg alone, bits and states are on disk. The files are copied while the volume is open.
  for (const name of ["crash1", "crash5"]) {
    const { group, device, candidates } = await open(folder, name);
    await device.write(0, new Uint8Array(4096).fill(0x41));
    await device.flush();
    // The second copy, or the parity of the first row.
    const leg = name === "crash1" ? 1 : 2;
    const part = group.logicalVolumes.find((volume) => volume.name === `${name}_rimage_${leg}`)!;
    const image = part.segments[0]!.areas[0]!;
    const pv = group.physicalVolumes.find((each) => image.kind === "pv" && each.name === image.pv)!;
    const at = pv.peStart + (image.kind === "pv" ? image.pe : 0) * group.extentSize;
    const torn = candidates.find((candidate) => candidate.name === pv.device.split("/").at(-1))!;
    await torn.device.write(at, new Uint8Array(512).fill(0xee));
    for (const candidate of candidates) {
      await candidate.device.flush();
      cpSync(`${folder}/${candidate.name}`, `${folder}/kept-${candidate.name}`);
    }
    await device.close();
    for (const candidate of candidates) {
      await candidate.device.close();
      cpSync(`${folder}/kept-${candidate.name}`, `${folder}/${candidate.name}`);
    }
  }
  const output = await runInKernel({
    disks: DISKS.map((name) => `${folder}/${name}`),
    timeoutMs: 240_000,
    script: `
vgchange -q -ay vg 2>/dev/null >&2
dmsetup status | grep -E ' (raid|mirror) '
sleep 2
for lv in ${[...names, "joining", "crash1", "crash5"].join(" ")}; do echo "hash $lv $(sha256sum < /dev/vg/$lv | cut -d' ' -f1)"; done
cmp /dev/mapper/vg-crash1_rimage_0 /dev/mapper/vg-crash1_rimage_1 && echo crash1 legs alike
cmp /dev/mapper/vg-joining_rimage_0 /dev/mapper/vg-joining_rimage_2 && echo joining legs alike
for lv in $(lvs --noheadings -o lv_name -S 'segtype!=mirror && segtype=~^raid' vg); do lvchange -q --syncaction check vg/$lv; done
sleep 3
lvs --noheadings -o lv_name,sync_percent,raid_mismatch_count -S 'segtype=~^raid' vg | sed 's/^ */scrub /'
echo "from the kernel" | dd of=/dev/vg/lv3 bs=1M seek=1 conv=notrunc 2>/dev/null
vgchange -q -an vg >/dev/null`,
  });
  const lines = output.split("\n");
  for (const [i, type] of TYPES.entries()) {
    const status = lines.find((line) => line.startsWith(`vg-lv${i}:`))!;
    if (type.startsWith("mirror")) expect(status).toMatch(/ A+ /);
    else expect(status).toMatch(/ (A+) (\d+)\/\2 idle 0 /);
  }
  for (const name of [...names, "joining", "crash1", "crash5"])
    expect(lines).toContain(`hash ${name} ${hashOf(contents)}`);
  expect(lines).toContain("crash1 legs alike");
  expect(lines).toContain("joining legs alike");
  const scrubs = lines.filter((line) => line.startsWith("scrub "));
  expect(scrubs.length).toBe(TYPES.length - 2 + 3);
  for (const line of scrubs) expect(line).toMatch(/^scrub \S+ +100\.00 +0 *$/);
  const { device, candidates } = await open(folder, "lv3");
  const back = new Uint8Array(16);
  await device.read(MIB, back);
  expect(Buffer.from(back).toString()).toBe("from the kernel\n");
  await device.close();
  for (const candidate of candidates) await candidate.device.close();
});
