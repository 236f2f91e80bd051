/** Legs added, removed, replaced and split off; volumes of legs made larger and smaller: the bytes stay, legs are alike. */
import { describe, expect, test } from "vitest";
import { openVolume } from "#src/lvm/activate.js";
import { planKeepMirrorLegs, planMirrorToRaid1, planToMirror } from "#src/lvm/changes/convert-mirror.js";
import {
  type ConvertPlan,
  planAddLegs,
  planRemoveLegs,
  planReplaceLegs,
  planSplitLegs,
  planToRaid1,
} from "#src/lvm/changes/convert-raid.js";
import { planResizeRaid } from "#src/lvm/changes/resize-raid.js";
import { checkGroup } from "#src/lvm/check-group.js";
import { checkTypes } from "#src/lvm/check-types.js";
import { newId } from "#src/lvm/id.js";
import type { VolumeGroup } from "#src/lvm/metadata.js";
import { blankLegs, writeNewLegs } from "#src/stack/lvm/raid-legs.js";
import { addVolume, extents, makeGroup, memoryDisks, seededRandom } from "../support.js";
import { raidWorld, shapeOf } from "./support.js";

const random = seededRandom(77);
const parts = { name: "lv", newId: () => newId(random), time: 2, host: "here" };

function sound(group: VolumeGroup): VolumeGroup {
  expect([...checkGroup(group), ...checkTypes(group)]).toEqual([]);
  return group;
}

/** Memory disks with a linear volume of random bytes. */
async function linearWorld() {
  const disks = memoryDisks(Array.from({ length: 4 }, () => 4 << 20));
  const group = addVolume(await makeGroup(disks), "lv", { size: extents(12) });
  const devices = new Map(disks.map(({ device }, i) => [`pv${i}`, device]));
  const contents = seededRandom(5)(12 << 16);
  const device = await openVolume(group, "lv", devices, { writable: true });
  await device.write(0, contents);
  await device.close();
  return { group, devices, contents };
}

type World = Awaited<ReturnType<typeof linearWorld>>;

/** What the command does: prepare, (the group is written,) fill the legs. */
async function convert(world: World, plan: ConvertPlan): Promise<World> {
  const type = plan.volume.segments[0]!.type;
  if (type === "mirror") await blankLegs(plan.group, plan.volume, world.devices);
  else await writeNewLegs(plan.group, plan.volume, plan.newLegs, world.devices);
  const next = { ...world, group: sound(plan.group) };
  await expectContents(next);
  return next;
}

async function expectContents({ group, devices, contents }: World, name = "lv") {
  const device = await openVolume(group, name, devices, {
    writable: true,
    maintain: (legs) => legs.recover(Number.POSITIVE_INFINITY),
  });
  const found = new Uint8Array(device.size);
  await device.read(0, found);
  expect(Buffer.compare(found, contents)).toBe(0);
  await device.close();
}

/** Every leg alone has all bytes. */
async function expectLegs({ group, devices, contents }: World, legs: number, part = "rimage") {
  for (let leg = 0; leg < legs; leg++) {
    const device = await openVolume(group, `lv_${part}_${leg}`, devices);
    const found = new Uint8Array(device.size);
    await device.read(0, found);
    expect(Buffer.compare(found, contents), `leg ${leg}`).toBe(0);
    await device.close();
  }
}

test("linear to raid1, more legs, fewer legs, linear again", async () => {
  let world = await linearWorld();
  world = await convert(world, planToRaid1(world.group, { ...parts, legs: 2, regionSize: 65536 }));
  await expectLegs(world, 2);
  world = await convert(world, planAddLegs(world.group, { ...parts, legs: 4 }));
  await expectLegs(world, 4);
  world = await convert(world, planRemoveLegs(world.group, "lv", [0, 2]));
  await expectLegs(world, 2);
  world = await convert(world, planRemoveLegs(world.group, "lv", [0]));
  expect(world.group.logicalVolumes.map(({ name }) => name)).toEqual(["lv"]);
});

test("a leg that joins is not read before it is filled, by us or after a cut", async () => {
  let world = await linearWorld();
  world = await convert(world, planToRaid1(world.group, { ...parts, legs: 2, regionSize: 65536 }));
  const plan = planAddLegs(world.group, { ...parts, legs: 3 });
  await writeNewLegs(plan.group, plan.volume, plan.newLegs, world.devices);
  let states: readonly string[] = [];
  const device = await openVolume(plan.group, "lv", world.devices, {
    maintain: async (legs) => {
      states = [...legs.legStates];
    },
  });
  expect(states).toEqual(["in sync", "in sync", "behind"]);
  const found = new Uint8Array(device.size);
  await device.read(0, found);
  expect(Buffer.compare(found, world.contents)).toBe(0);
});

test("a leg becomes a volume of its own", async () => {
  let world = await linearWorld();
  world = await convert(world, planToRaid1(world.group, { ...parts, legs: 2 }));
  world = await convert(world, planSplitLegs(world.group, "lv", { ...parts, name: "copy", id: newId(random) }));
  await expectContents(world, "copy");
  expect(world.group.logicalVolumes.map(({ name }) => name).sort()).toEqual(["copy", "lv"]);
});

test("mirrors: from linear, fewer legs, to raid1", async () => {
  let world = await linearWorld();
  world = await convert(world, planToMirror(world.group, { ...parts, legs: 3, regionSize: 65536 }));
  await expectLegs(world, 3, "mimage");
  world = await convert(world, planKeepMirrorLegs(world.group, "lv", [0, 2]));
  await expectLegs(world, 2, "mimage");
  world = await convert(world, planMirrorToRaid1(world.group, parts));
  await expectLegs(world, 2);
  let other = await linearWorld();
  other = await convert(other, planToMirror(other.group, { ...parts, legs: 2, mirrorLog: "core" }));
  other = await convert(other, planKeepMirrorLegs(other.group, "lv", [1]));
  expect(other.group.logicalVolumes.map(({ name }) => name)).toEqual(["lv"]);
});

describe.each(["raid1", "raid10", "raid5", "raid6"])("%s", (type) => {
  const { legs, spare, request } = shapeOf(type);

  test("missing legs are replaced", async () => {
    const made = await raidWorld({ type, ...request }, { disks: legs + spare });
    const device = await made.open();
    const contents = seededRandom(6)(device.size);
    await device.write(0, contents);
    await device.close();
    const lost = Array.from({ length: spare }, (_, i) => i + 1);
    const devices = new Map([...made.devices].map(([pv, disk], i) => [pv, lost.includes(i) ? null : disk!]));
    const degraded = await openVolume(made.group, "lv", devices, { writable: true });
    contents.fill(9, 70_000, 170_000);
    await degraded.write(70_000, contents.subarray(70_000, 170_000));
    await degraded.close();
    const physicalVolumes = made.group.physicalVolumes.map((pv) =>
      devices.get(pv.name) ? pv : { ...pv, flags: ["MISSING"] },
    );
    const plan = planReplaceLegs({ ...made.group, physicalVolumes }, { ...parts, replace: lost });
    await writeNewLegs(plan.group, plan.volume, lost, devices);
    const world = { group: plan.group, devices, contents } as unknown as World;
    await expectContents(world);
    // The new legs have all: others can go.
    const others = new Map([...devices].map(([pv, disk], i) => [pv, i === 0 ? null : disk]));
    await expectContents({ ...world, devices: others } as unknown as World);
  });

  test("grows and shrinks with all legs", async () => {
    const made = await raidWorld({ type, ...request }, { disks: legs, count: 12 });
    const device = await made.open();
    const contents = seededRandom(6)(device.size);
    await device.write(0, contents);
    await device.close();
    const size = (count: number) => ({ name: "lv", size: extents(count), way: "resize" as const });
    const grown = planResizeRaid(sound(made.group), size(24));
    const devices = made.devices as World["devices"];
    const larger = new Uint8Array(24 << 16);
    larger.set(contents);
    const wide = await openVolume(sound(grown.group), "lv", devices, { writable: true });
    await wide.zero(contents.length, wide.size - contents.length);
    await wide.close();
    await expectContents({ group: grown.group, devices, contents: larger });
    let mismatches = -1;
    await (
      await openVolume(grown.group, "lv", devices, {
        writable: true,
        maintain: async (set) => {
          mismatches = await set.check(false);
        },
      })
    ).close();
    expect(mismatches).toBe(0);
    const cut = planResizeRaid(grown.group, size(12));
    await expectContents({ group: sound(cut.group), devices, contents });
  });
});
