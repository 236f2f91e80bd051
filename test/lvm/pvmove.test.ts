/** Extents that move: the text at each step, what its cuts leave, and the command. */
import { expect, test } from "vitest";
import { openVolume } from "#src/lvm/activate.js";
import { planBeginPvmove, planEndPvmove, planMoved } from "#src/lvm/changes/pvmove.js";
import { checkGroup } from "#src/lvm/check-group.js";
import { findVolume, type VolumeGroup } from "#src/lvm/metadata.js";
import { devicesOf, findGroup, scanDevices } from "#src/lvm/scan.js";
import { xvdWorld } from "../support/xvd.js";
import { contents } from "./snapshot-support.js";
import {
  addVolume,
  type Disk,
  extents,
  MIB,
  makeGroup,
  memoryDisks,
  seededRandom,
  valueGroup,
  writeGroup,
} from "./support.js";
import { group as makeWorldGroup, rows } from "./world.js";

const ID = "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa";
const REQUEST = { id: ID, time: 1, host: "here" };
const whole = (group: VolumeGroup, pv: string) => [
  { pv, first: 0, count: group.physicalVolumes.find(({ name }) => name === pv)!.peCount },
];

/** Where every extent of a volume lies. */
function places(group: VolumeGroup, name: string): string[] {
  return findVolume(group, name).segments.flatMap(({ areas, count }) =>
    areas.flatMap((area) =>
      Array.from({ length: count / areas.length }, (_, i) =>
        area.kind === "pv" ? `${area.pv}:${area.pe + i}` : `${area.lv}:${area.le + i}`,
      ),
    ),
  );
}

test("ranges cut segments, stripes keep apart, and the end joins what belongs together", () => {
  let group = addVolume(valueGroup([40, 40, 40]), "a", {
    size: extents(10),
    within: [{ pv: "pv0", first: 5, count: 10 }],
  });
  group = addVolume(group, "s", {
    size: extents(12),
    stripes: 2,
    within: [
      { pv: "pv0", first: 20, count: 6 },
      { pv: "pv1", first: 0, count: 6 },
    ],
  });
  const begun = planBeginPvmove(group, { ...REQUEST, from: [{ pv: "pv0", first: 8, count: 15 }] });
  expect(checkGroup(begun.group)).toEqual([]);
  expect(findVolume(begun.group, "a").status).toContain("LOCKED");
  expect(places(begun.group, "a")).toEqual([
    ...["pv0:5", "pv0:6", "pv0:7"],
    ...Array.from({ length: 7 }, (_, i) => `pvmove0:${i}`),
  ]);
  const all = new Set(findVolume(begun.group, begun.name).segments.map(({ start }) => start));
  const ended = planEndPvmove(planMoved(begun.group, begun.name, all).group, begun.name).group;
  expect(checkGroup(ended)).toEqual([]);
  const used = places(ended, "s");
  expect(used.filter((place) => place.startsWith("pv1:"))).toHaveLength(6); // never beside the other stripe
  expect([...places(ended, "a"), ...used].some((place) => /^pv0:(8|9|1\d|2[0-2])$/.test(place))).toBe(false);
  // Given up, everything is where it was.
  expect(planEndPvmove(begun.group, begun.name).group.logicalVolumes).toEqual(group.logicalVolumes);
});

test("refused: nothing there, no room, only room beside the other stripe", () => {
  const group = addVolume(valueGroup([10, 10]), "s", { size: extents(8), stripes: 2 });
  const move = (from: string, to?: string, volume?: string) => () =>
    planBeginPvmove(group, {
      ...REQUEST,
      from: whole(group, from),
      ...(to ? { to: whole(group, to) } : {}),
      ...(volume ? { volume } : {}),
    });
  expect(move("pv0", "pv1")).toThrow("No extents available for allocation.");
  expect(move("pv0", "pv0")).toThrow("No extents available for allocation.");
  expect(move("pv0", undefined, "nope")).toThrow(/Failed to find logical volume/);
  const other = addVolume(group, "x", { size: extents(1), within: [{ pv: "pv1", first: 9, count: 1 }] });
  expect(() =>
    planBeginPvmove(other, { ...REQUEST, from: whole(group, "pv1"), volume: "x", to: whole(group, "pv1") }),
  ).toThrow();
  expect(() =>
    planBeginPvmove(
      addVolume(valueGroup([4, 4]), "b", { size: extents(2), within: [{ pv: "pv1", first: 0, count: 2 }] }),
      { ...REQUEST, from: [{ pv: "pv0", first: 0, count: 4 }] },
    ),
  ).toThrow("No data to move");
});

test("at every step a volume reads the same, whatever the places that do not count hold", async () => {
  const disks = memoryDisks([4 * MIB, 4 * MIB, 4 * MIB]);
  let group = addVolume(await makeGroup(disks), "a", { size: extents(9), within: [{ pv: "pv0", first: 2, count: 9 }] });
  group = await writeGroup(disks, addVolume(group, "s", { size: extents(8), stripes: 2, stripeSize: 8192 }));
  const bytes = new Map<string, Buffer>();
  for (const name of ["a", "s"]) {
    const device = await open(disks, group, name);
    bytes.set(name, Buffer.from(seededRandom(name.charCodeAt(0))(device.size)));
    await device.write(0, bytes.get(name)!);
    await device.close();
  }
  const check = async (step: string) => {
    for (const [name, expected] of bytes) {
      const device = await open(disks, group, name);
      expect((await contents(device)).equals(expected), `${name} ${step}`).toBe(true);
      await device.close();
    }
  };
  const begun = planBeginPvmove(group, { ...REQUEST, from: whole(group, "pv0") });
  group = await writeGroup(disks, begun.group);
  await check("after the begin");
  for (const mirror of findVolume(group, begun.name).segments) {
    const [from, to] = mirror.areas.map((area) => {
      const pv = group.physicalVolumes.find(({ name }) => area.kind === "pv" && name === area.pv)!;
      const disk = disks[group.physicalVolumes.indexOf(pv)]!;
      return { disk, offset: pv.peStart + (area.kind === "pv" ? area.pe : 0) * group.extentSize };
    });
    const length = mirror.count * group.extentSize;
    to!.disk.bytes.set(from!.disk.bytes.subarray(from!.offset, from!.offset + length), to!.offset);
    await check(`before ${mirror.start} is marked`);
    group = await writeGroup(disks, planMoved(group, begun.name, new Set([mirror.start])).group);
    from!.disk.bytes.fill(0xdd, from!.offset, from!.offset + length);
    await check(`after ${mirror.start} is marked`);
  }
  group = await writeGroup(disks, planEndPvmove(group, begun.name).group);
  await check("after the end");
  expect(places(group, "a").some((place) => place.startsWith("pv0"))).toBe(false);
});

async function open(disks: readonly Disk[], group: VolumeGroup, name: string) {
  const { members } = findGroup(await scanDevices(disks), "vg");
  return openVolume(group, name, devicesOf(members), { writable: true });
}

test("the command moves, and tells what it cannot", { timeout: 180_000 }, async () => {
  const world = xvdWorld();
  await makeWorldGroup(world, "-s", "1M");
  await world.xvd("lvcreate", "-L", "20M", "-n", "a", "vg0", "p0.dsk");
  await world.xvd("lvcreate", "-L", "8M", "-n", "b", "vg0", "p0.dsk");
  await world.xvd("lvcreate", "-s", "-L", "2M", "-n", "snap", "vg0/b", "p0.dsk");
  await world.xvd("io", "lvm:vg0/a", "-c", "write -P 0x31 0 20M");
  await world.xvd("io", "lvm:vg0/b", "-c", "write -P 0x32 0 1M");
  const before = await rows(world, "lvs", "-o", "lv_name,devices", "vg0");
  expect(await world.run(["pvmove", "--dry-run", "p0.dsk"])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/pvmove0/),
  });
  expect(await rows(world, "lvs", "-o", "lv_name,devices", "vg0")).toEqual(before);
  expect(await world.xvd("pvmove", "p0.dsk", "p1.dsk")).toBe("  p0.dsk: Moved: 100.00%\n");
  const moved = await rows(world, "lvs", "-o", "lv_name,devices", "vg0");
  expect(moved.every(({ devices }) => /p1\.dsk/.test(devices!))).toBe(true);
  await world.xvd("io", "lvm:vg0/a", "-c", "read -P 0x31 0 20M");
  await world.xvd("io", "lvm:vg0/snap", "-c", "read -P 0 0 1M");
  await world.xvd("attach", "lvm:vg0/b");
  expect(await world.run(["pvmove", "-n", "a", "p1.dsk"])).toMatchObject({ code: 0 });
  await world.xvd("detach", "xvda");
  expect(await world.run(["pvmove", "nope.dsk"])).toMatchObject({ code: 1, stderr: expect.stringMatching(/nope.dsk/) });
  expect(await world.run(["pvmove"])).toMatchObject({ code: 0, stdout: "" });
  await world.xvd("vgck", "vg0");
});
