/** How a group is written: what each cut leaves, where texts go in their ring, which areas are mended. */
import { describe, expect, test } from "vitest";
import { planRemoveVolume } from "#src/lvm/changes/volume.js";
import { planCommit, runCommit } from "#src/lvm/commit.js";
import { isInUse } from "#src/lvm/label.js";
import type { VolumeGroup } from "#src/lvm/metadata.js";
import { maxTextSize, nextTextOffset } from "#src/lvm/metadata-area.js";
import { type FoundPv, findGroup, scanDevices } from "#src/lvm/scan.js";
import {
  addVolume,
  type Disk,
  extents,
  HEADER,
  MIB,
  makeGroup,
  makePvs,
  memoryDisks,
  seededRandom,
  writeGroup,
} from "./support.js";

const SECTOR = 512;

/** What a scan says of the group, in a form that tells old from new. */
async function shown(disks: readonly Disk[], id: string): Promise<VolumeGroup | null> {
  return (await scanDevices(disks)).groups.find(({ group }) => group.id === id)?.group ?? null;
}

const members = async (disks: readonly Disk[]): Promise<FoundPv[]> => {
  const scan = await scanDevices(disks);
  return [...scan.groups.flatMap((found) => [...found.members.values()]), ...scan.free].filter((pv) => pv !== null);
};

/** Applies a change sector by sector; after each one the group must be the old or the new one, and never the old one again. */
async function tryCuts(
  disks: readonly Disk[],
  before: VolumeGroup | null,
  write: Parameters<typeof planCommit>[0],
  id: string,
): Promise<number> {
  let cuts = 0;
  let switched = false;
  const old = JSON.stringify(before);
  for (const step of planCommit(write)) {
    if (step.kind === "flush") continue;
    const disk = disks.find(({ name }) => name === step.pv)!;
    for (let at = 0; at < step.data.length; at += SECTOR) {
      disk.bytes.set(step.data.subarray(at, at + SECTOR), step.offset + at);
      cuts++;
      const now = await shown(disks, id);
      const isNew = JSON.stringify(now) === JSON.stringify(write.group);
      if (!isNew) expect(JSON.stringify(now), `cut ${cuts}, in ${step.what} of ${step.pv}`).toBe(old);
      if (switched) expect(isNew, `cut ${cuts}, in ${step.what} of ${step.pv}`).toBe(true);
      switched ||= isNew;
    }
  }
  expect(await shown(disks, id)).toEqual(write.group);
  return cuts;
}

describe("after a cut at any sector the old group is there, or the new one", () => {
  test.each([
    [1, 1],
    [3, 1],
    [2, 2],
  ] as const)("%i disks with %i metadata areas", async (count, metadataCopies) => {
    const disks = memoryDisks(Array(count).fill(4 * MIB));
    let group = await makeGroup(disks, { metadataCopies, metadataSize: 64 << 10, dataAlignment: 64 << 10 });
    for (let round = 0; round < 12; round++) {
      const next = { ...addVolume(group, `lv${round}`, { size: extents(1) }), seqno: group.seqno + 1 };
      const cuts = await tryCuts(
        disks,
        group,
        { group: next, header: HEADER, members: await members(disks), removed: [] },
        group.id,
      );
      expect(cuts).toBeGreaterThan(3 * count);
      group = next;
    }
  });

  test("a new group, a volume more, a volume less, no group any more", async () => {
    const disks = memoryDisks([4 * MIB, 4 * MIB, 4 * MIB]);
    const scratch = memoryDisks([4 * MIB, 4 * MIB, 4 * MIB]);
    const model = await makeGroup(scratch);
    await makePvs(disks);
    const [one, two, three] = (await members(disks)) as [FoundPv, FoundPv, FoundPv];
    const first = { ...model, seqno: 1, physicalVolumes: model.physicalVolumes.slice(0, 2) };
    await tryCuts(disks, null, { group: first, header: HEADER, members: [one, two], removed: [] }, model.id);
    expect((await members(disks)).map(({ label }) => isInUse(label))).toEqual([true, true, false]);
    const second = { ...model, seqno: 2 };
    const now = await members(disks);
    await tryCuts(disks, first, { group: second, header: HEADER, members: now, removed: [] }, model.id);
    const third = { ...model, seqno: 3, physicalVolumes: model.physicalVolumes.slice(1) };
    const [gone, ...rest] = (await members(disks)) as [FoundPv, ...FoundPv[]];
    await tryCuts(disks, second, { group: third, header: HEADER, members: rest, removed: [gone] }, model.id);
    const scan = await scanDevices(disks);
    expect([scan.free.map(({ name }) => name), scan.warnings]).toEqual([[one.name], []]);
    await runCommit(planCommit({ group: null, header: HEADER, members: [], removed: rest.map((pv) => pv) }));
    expect((await scanDevices(disks)).groups).toEqual([]);
    expect(three.name).toBe("disk2");
  });
});

describe("the ring of texts", () => {
  test("wraps around its end again and again, and the largest text fits twice", async () => {
    const disks = memoryDisks([4 * MIB]);
    let group = await makeGroup(disks, { metadataSize: 32 << 10, dataAlignment: 4096 });
    const [area] = (await members(disks))[0]!.areas;
    const starts = new Set<number>();
    let wrapped = 0;
    for (let round = 0; round < 60; round++) {
      group = await writeGroup(disks, { ...group, tags: [`t${"x".repeat(200 + ((round * 173) % 900))}`] });
      const { committed, size } = (await members(disks))[0]!.areas[0]!;
      starts.add(committed!.offset);
      if (committed!.offset + committed!.size > size) wrapped++;
    }
    expect(starts.size).toBeGreaterThan(20);
    expect(wrapped).toBeGreaterThan(1);
    expect(area!.size).toBe(32 << 10);
  });

  test("where the next text begins", () => {
    const area = { offset: 4096, size: 36864, ignored: false, header: null, problem: null };
    const next = (offset: number, size: number) => nextTextOffset({ ...area, committed: { offset, size, crc: 0 } });
    expect(nextTextOffset({ ...area, committed: null })).toBe(512);
    expect(next(512, 512)).toBe(1024);
    expect(next(512, 513)).toBe(1536);
    expect(next(34304, 3280)).toBe(1536); // as LVM2 did
    expect(next(35840, 1024)).toBe(512); // exactly to the end
    expect(next(35328, 100)).toBe(35840);
    expect(next(35840, 600)).toBe(512);
    expect(maxTextSize({ offset: 4096, size: 1044480 })).toBe(521472);
  });

  test("a text that is too long is refused before a byte is written", async () => {
    const disks = memoryDisks([4 * MIB, 8 * MIB]);
    const group = await makeGroup(disks, { metadataSize: 32 << 10, dataAlignment: 4096 });
    const before = disks.map(({ bytes }) => Buffer.from(bytes).toString("base64"));
    const tags = Array.from({ length: 40 }, (_, i) => `${i}${"y".repeat(1000)}`);
    await expect(writeGroup(disks, { ...group, tags })).rejects.toMatchObject({
      code: "NO_SPACE",
      message: expect.stringContaining("takes 1"),
    });
    expect(disks.map(({ bytes }) => Buffer.from(bytes).toString("base64"))).toEqual(before);
  });
});

describe("copies that are not as they should be", () => {
  async function grown() {
    const disks = memoryDisks([4 * MIB, 4 * MIB, 4 * MIB]);
    const group = await makeGroup(disks);
    return { disks, group };
  }
  const warnings = async (disks: readonly Disk[]) => (await scanDevices(disks)).warnings.join("\n");

  test("an older one is told, and mended by the next change", async () => {
    const { disks, group } = await grown();
    const old = disks[1]!.bytes.slice();
    const changed = await writeGroup(disks, addVolume(group, "a", { size: extents(2) }));
    disks[1]!.bytes.set(old);
    expect(await shown(disks, group.id)).toEqual(changed);
    expect(await warnings(disks)).toMatch(/ignoring metadata seqno 1 on disk1 for seqno 2 of VG vg/);
    await writeGroup(disks, changed);
    expect(await warnings(disks)).toBe("");
  });

  test.each([
    ["header", 4096 + 20, /its checksum is/],
    ["text", 4096 + 512 + 30, /checksum of the text/],
  ])("a damaged %s is told, and mended by the next change", async (_what, at, pattern) => {
    const { disks, group } = await grown();
    disks[0]!.bytes[at]! ^= 0xff;
    expect(await shown(disks, group.id)).toEqual(group);
    expect(await warnings(disks)).toMatch(pattern);
    const next = await writeGroup(disks, addVolume(group, "a", { size: extents(1) }));
    expect(await warnings(disks)).toBe("");
    expect((await scanDevices(disks.slice(0, 1))).groups[0]!.group).toEqual(next);
  });

  test("one seqno with two texts: the first counts, the other is told", async () => {
    const { disks, group } = await grown();
    const fork = disks.map(({ bytes }) => bytes.slice());
    await writeGroup(disks, addVolume(group, "a", { size: extents(1) }));
    const other = memoryDisks([4 * MIB, 4 * MIB, 4 * MIB]);
    for (const [i, bytes] of fork.entries()) other[i]!.bytes.set(bytes);
    await writeGroup(other, addVolume(group, "b", { size: extents(1) }));
    disks[2]!.bytes.set(other[2]!.bytes);
    expect(await warnings(disks)).toMatch(/Metadata on disk2 differs from that of VG vg with the same seqno 2/);
    expect((await shown(disks, group.id))!.logicalVolumes.map(({ name }) => name)).toEqual(["a"]);
  });

  test("a missing volume, a clone and one that was taken out while away are named", async () => {
    const { disks, group } = await grown();
    const clone = memoryDisks([4 * MIB])[0]!;
    clone.bytes.set(disks[0]!.bytes);
    const twice = await scanDevices([...disks, { ...clone, name: "clone" }]);
    expect(twice.warnings).toEqual([
      expect.stringMatching(/Not using device clone for PV .*: it is a duplicate of disk0/),
    ]);
    expect(findGroup(twice, "vg").duplicates).toEqual([
      { id: group.physicalVolumes[0]!.id, used: "disk0", unused: ["clone"] },
    ]);
    const partial = await scanDevices(disks.slice(1));
    expect(partial.warnings.join()).toMatch(
      /Couldn't find device with uuid .*VG vg is missing PV .*last written to disk0/,
    );
    expect(findGroup(partial, "vg").members.get("pv0")).toBeNull();
    const away = disks[0]!.bytes.slice();
    await writeGroup(disks, { ...group, physicalVolumes: group.physicalVolumes.slice(1) });
    disks[0]!.bytes.set(away);
    const found = findGroup(await scanDevices(disks), "vg");
    expect(found.outdated.map(({ name }) => name)).toEqual(["disk0"]);
  });

  test("an ignored area is neither read nor written", async () => {
    const { disks, group } = await grown();
    const { planHeader } = await import("#src/lvm/metadata-area.js");
    const area = (await members(disks))[0]!.areas[0]!;
    const { offset, data } = planHeader({ ...area, ignored: true }, null, null);
    disks[0]!.bytes.set(data, offset);
    const before = disks[0]!.bytes.slice(4096, MIB);
    const next = await writeGroup(disks, planRemoveVolume(addVolume(group, "a", { size: extents(1) }), "a").group);
    expect(next.seqno).toBe(2);
    expect(Buffer.compare(disks[0]!.bytes.subarray(4096, MIB), before)).toBe(0);
    expect(await warnings(disks)).toBe("");
  });
});

test("disks with 4096-byte blocks hold the same bytes", async () => {
  const [small, large] = [memoryDisks([4 * MIB]), memoryDisks([4 * MIB], 4096)];
  for (const disks of [small, large])
    await writeGroup(disks, addVolume(await makeGroup(disks), "a", { size: extents(3) }));
  expect(Buffer.compare(small[0]!.bytes, large[0]!.bytes)).toBe(0);
  expect(seededRandom(1)(3)).toEqual(seededRandom(1)(3));
});
