/** Labels, headers and texts made anew after damage of every kind. */
import { describe, expect, test } from "vitest";
import { planCommit } from "#src/lvm/commit.js";
import { dumpPv } from "#src/lvm/dump.js";
import { findLabel } from "#src/lvm/label.js";
import { otherText, ownTexts, planRepair, type RepairSource, runRepair } from "#src/lvm/repair-pv.js";
import { type FoundPv, findGroup, scanDevices } from "#src/lvm/scan.js";
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

async function twoDisks(metadataCopies: 1 | 2 = 1): Promise<Disk[]> {
  const disks = memoryDisks([8 * MIB, 8 * MIB]);
  let group = await makeGroup(disks, { metadataCopies });
  for (const name of ["a", "b", "c"]) group = await writeGroup(disks, addVolume(group, name, { size: extents(2) }));
  return disks;
}

const deviceOf = async (disk: Disk) => (await import("#src/block/aligned.js")).byteGranular(disk.device);
const damage = (disk: Disk, offset: number, length: number) => disk.bytes.set(seededRandom(offset + 1)(length), offset);

async function repair(disks: readonly Disk[], which: number, source?: RepairSource): Promise<readonly string[]> {
  const device = await deviceOf(disks[which]!);
  const { label } = findLabel(disks[which]!.bytes.subarray(0, 2048));
  const others = await otherText(await scanDevices(disks.filter((_, i) => i !== which)), label, `disk${which}`);
  const best = source ?? others ?? (await ownTexts(device, {}))[0]!;
  const plan = await planRepair(device, { source: best, name: `disk${which}` });
  await runRepair(device, plan);
  return plan.lines;
}

async function expectSound(disks: readonly Disk[], volumes = ["a", "b", "c"]): Promise<void> {
  const scan = await scanDevices(disks);
  expect(scan.warnings).toEqual([]);
  const { group, members } = findGroup(scan, "vg");
  expect(group.logicalVolumes.map(({ name }) => name)).toEqual(volumes);
  expect([...members.values()].every(Boolean)).toBe(true);
}

describe("repair from another volume of the group", () => {
  test.each([
    ["the label", 512, 512],
    ["the label and what is behind it", 0, 4096],
    ["the header of the metadata", 4096, 512],
    ["label, header and the whole ring", 0, 1 << 20],
    ["one byte of the text", 4096 + 512 + 3 * 1536 + 40, 1],
  ])("%s", async (_, offset, length) => {
    const disks = await twoDisks();
    const untouched = disks[1]!.bytes.slice();
    damage(disks[0]!, offset, length);
    await repair(disks, 0);
    await expectSound(disks);
    expect(Buffer.compare(disks[1]!.bytes, untouched)).toBe(0);
    expect(await repair(disks, 0)).toEqual([]);
  });
});

describe("repair with nothing but the disk itself", () => {
  test("from what is left in the ring, which stays there", async () => {
    const disks = memoryDisks([8 * MIB]);
    let group = await makeGroup(disks);
    for (const name of ["a", "b"]) group = await writeGroup(disks, addVolume(group, name, { size: extents(2) }));
    const before = (await dumpPv(disks[0]!.device, "metadata_search")).lines;
    damage(disks[0]!, 0, 4608);
    await repair(disks, 0);
    await expectSound(disks, ["a", "b"]);
    const after = (await dumpPv(disks[0]!.device, "metadata_search")).lines;
    for (const line of before) expect(after).toContain(line);
  });

  test("from its second area", async () => {
    const disks = (await twoDisks(2)).slice(0, 1);
    const device = await deviceOf(disks[0]!);
    damage(disks[0]!, 512, (1 << 20) - 512);
    const sources = await ownTexts(device, { mda_offset: 7 * MIB, mda_size: MIB });
    const plan = await planRepair(device, { source: sources[0]!, name: "disk0" });
    await runRepair(device, plan);
    const { label, problems } = findLabel(disks[0]!.bytes.subarray(0, 2048));
    expect([label?.metadataAreas.length, problems]).toEqual([2, []]);
    const { groups } = await scanDevices(disks);
    expect(groups[0]?.damage).toEqual([]);
  });

  test("an older text that the user picks", async () => {
    const disks = memoryDisks([8 * MIB]);
    let group = await makeGroup(disks);
    for (const name of ["a", "b"]) group = await writeGroup(disks, addVolume(group, name, { size: extents(2) }));
    const device = await deviceOf(disks[0]!);
    const { texts, lines } = await dumpPv(device, "metadata_all");
    expect(texts.length).toBe(3);
    const at = Number(/metadata at (\d+)/.exec(lines.find((line) => line.includes("seqno 2 "))!)![1]);
    damage(disks[0]!, 0, 4608);
    const [source] = await ownTexts(device, { metadata_offset: at });
    const settings = { metadata_offset: at };
    await runRepair(device, await planRepair(device, { source: source!, name: "elsewhere", settings }));
    await expectSound(disks, ["a"]);
  });
});

test("a text of another group, or one that fits several disks, is refused and nothing is written", async () => {
  const disks = await twoDisks();
  const other = memoryDisks([8 * MIB]);
  await makeGroup(other, { name: "other" });
  const foreign = (await ownTexts(await deviceOf(other[0]!), {}))[0]!;
  damage(disks[0]!, 512, 512);
  const before = disks[0]!.bytes.slice();
  const device = await deviceOf(disks[0]!);
  const source = (await ownTexts(await deviceOf(disks[1]!), {}))[0]!;
  await expect(planRepair(device, { source, name: "elsewhere" })).rejects.toThrow(/pv_uuid=/);
  await expect(planRepair(await deviceOf(disks[1]!), { source: foreign, name: "disk1" })).rejects.toThrow(/has no PV/);
  const bad = { text: source.text.replace("extent_count = 2", "extent_count = 3"), from: "a file" };
  await expect(planRepair(device, { source: bad, name: "disk0" })).rejects.toThrow(/Cannot repair/);
  expect(Buffer.compare(before, disks[0]!.bytes)).toBe(0);
});

test("after a cut at any write the same repair finishes", async () => {
  const disks = await twoDisks();
  damage(disks[0]!, 0, 4608);
  const broken = disks[0]!.bytes.slice();
  const device = await deviceOf(disks[0]!);
  const source = (await otherText(await scanDevices(disks.slice(1)), null, "disk0"))!;
  const writes = (await planRepair(device, { source, name: "disk0" })).writes.flat();
  for (let cut = 0; cut < writes.length; cut++) {
    disks[0]!.bytes.set(broken);
    for (const { offset, data } of writes.slice(0, cut)) disks[0]!.bytes.set(data, offset);
    await repair(disks, 0);
    await expectSound(disks);
  }
});

test("flipped bytes anywhere in label, header and text are read, or told, and never make the scan fail", async () => {
  const disks = memoryDisks([4 * MIB]);
  const group = await writeGroup(disks, addVolume(await makeGroup(disks), "a", { size: extents(2) }));
  const members = [...findGroup(await scanDevices(disks), "vg").members.values()] as FoundPv[];
  const places = planCommit({ group: { ...group, seqno: 9 }, header: HEADER, members, removed: [] }).flatMap((step) =>
    step.kind === "write" ? [[step.offset, step.data.length] as const] : [],
  );
  const good = disks[0]!.bytes.slice();
  const random = seededRandom(11);
  for (let round = 0; round < 150; round++) {
    disks[0]!.bytes.set(good);
    const [start, length] = [[512, 512] as const, [5632, 900] as const, ...places][round % (places.length + 2)]!;
    for (let flips = 0; flips <= round % 3; flips++) {
      const [a = 0, b = 0, c = 0] = random(3);
      disks[0]!.bytes[start + ((a * 256 + b) % length)]! ^= 1 << (c % 8);
    }
    const { groups, free } = await scanDevices(disks);
    for (const dump of ["headers", "metadata", "metadata_all", "metadata_search"] as const)
      await dumpPv(await deviceOf(disks[0]!), dump);
    const [found] = groups;
    if (found && found.damage.length === 0) expect(found.group).toEqual(group);
    else expect(groups.length + free.length).toBeLessThan(2);
  }
});
