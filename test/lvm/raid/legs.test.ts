/** Legs that are missing, break and come back, under random reads and writes, against a plain buffer. */
import { describe, expect, test } from "vitest";
import { DiskError } from "#src/errors.js";
import { RAID_SUPERBLOCK } from "#src/lvm/raid/layout.js";
import { ALL } from "#src/lvm/raid/superblock.js";
import { seededRandom } from "../support.js";
import { type RaidWorld, raidWorld, shapeOf } from "./support.js";

const number = (random: (size: number) => Uint8Array, below: number) =>
  Buffer.from(random(4)).readUInt32LE() % Math.max(1, below);

/** Writes, zeroes and reads at edges of chunks and regions; `model` has what must be there. */
async function exercise(world: RaidWorld, model: Uint8Array, random: (size: number) => Uint8Array, steps = 40) {
  const device = await world.open();
  try {
    for (let step = 0; step < steps; step++) await randomStep(device, model, random);
    await device.flush();
    const back = new Uint8Array(device.size);
    await device.read(0, back);
    expect(Buffer.compare(back, model)).toBe(0);
  } finally {
    await device.close();
  }
}

async function randomStep(
  device: Awaited<ReturnType<RaidWorld["open"]>>,
  model: Uint8Array,
  random: (size: number) => Uint8Array,
) {
  const unit = [1, 512, 4096, 65536][number(random, 4)]!;
  const offset = Math.min(model.length - 1, number(random, model.length / unit) * unit);
  const length = Math.min(model.length - offset, 1 + number(random, [100, 5000, 70000, 300000][number(random, 4)]!));
  switch (number(random, 5)) {
    case 0: {
      await device.zero(offset, length);
      model.fill(0, offset, offset + length);
      break;
    }
    case 1: {
      const into = new Uint8Array(length);
      await device.read(offset, into);
      expect(Buffer.compare(into, model.subarray(offset, offset + length))).toBe(0);
      break;
    }
    default: {
      const data = random(length);
      await device.write(offset, data);
      model.set(data, offset);
    }
  }
}

/** Nothing differs, by the volume's own scrub. */
async function expectAlike(world: RaidWorld, type: string) {
  if (!/^raid(1$|4|5|6|10)/.test(type)) return;
  const superblocks = world.group.logicalVolumes
    .filter(({ name }) => name.includes("_rmeta_"))
    .map(({ name }) => RAID_SUPERBLOCK.decode(world.bytesOf(name)));
  expect(new Set(superblocks.map(({ events }) => events)).size).toBe(1);
  for (const superblock of superblocks)
    expect(superblock).toMatchObject({ failedDevices: 0n, resyncOffset: ALL, recoveryOffset: ALL });
}

/** One of each kind; all layouts are in kernel-images.test.ts. */
describe.each(["raid1", "raid10", "raid4", "raid5", "raid5_ra", "raid6", "raid6_nc", "raid6_ls_6"])("%s", (type) => {
  const { legs, spare, request } = shapeOf(type);

  test("missing legs, and legs that come back", async () => {
    const random = seededRandom(type.length * 131 + type.charCodeAt(type.length - 1));
    const world = await raidWorld({ type, ...request }, { disks: legs });
    const all = world.devices;
    const model = new Uint8Array(24 << 16);
    await exercise(world, model, random);
    await expectAlike(world, type);
    for (let round = 0; round < 2; round++) {
      const first = number(random, legs);
      const lost = spare > 1 ? [first, (first + 1 + number(random, legs - 1)) % legs] : [first];
      world.devices = new Map([...all].map(([pv, device], i) => [pv, lost.includes(i) ? null : device]));
      await exercise(world, model, random, 20);
      world.devices = all; // what they lack is copied before the volume is there
      await exercise(world, model, random, 10);
      await expectAlike(world, type);
    }
  });

  test("a leg that breaks while it is used is left out, and remembered", async () => {
    const random = seededRandom(type.length * 17 + 3);
    const world = await raidWorld({ type, ...request }, { disks: legs });
    const model = new Uint8Array(24 << 16);
    await exercise(world, model, random, 10);
    const broken = world.disks[number(random, legs)]!;
    const device = await world.open();
    broken.broken = { read: true };
    for (let step = 0; step < 10; step++) await randomStep(device, model, random);
    broken.broken = { read: true, write: true };
    for (let step = 0; step < 15; step++) await randomStep(device, model, random);
    await device.flush();
    broken.broken = {}; // back, but it has missed writes: it is not read
    for (let step = 0; step < 10; step++) await randomStep(device, model, random);
    const back = new Uint8Array(device.size);
    await device.read(0, back);
    expect(Buffer.compare(back, model)).toBe(0);
    await device.close();
    const reading = await world.open(false);
    await reading.read(0, back);
    expect(Buffer.compare(back, model)).toBe(0);
    await reading.close();
    await exercise(world, model, random, 5);
    await expectAlike(world, type);
  });
});

test("with too many legs gone a volume is not opened", async () => {
  for (const type of ["raid1", "raid5", "raid6", "raid10"]) {
    const { legs, spare, request } = shapeOf(type);
    const world = await raidWorld({ type, ...request }, { disks: legs });
    world.devices = new Map([...world.devices].map(([pv, device], i) => [pv, i <= spare ? null : device]));
    await expect(world.open(false)).rejects.toMatchObject({ code: "IO", message: expect.stringMatching(/too many/) });
  }
});

test("a mirror that lacks a leg is read, and not written", async () => {
  const world = await raidWorld({ type: "mirror", mirrors: 1 }, { disks: 3 });
  const device = await world.open();
  await device.write(5, Uint8Array.of(1, 2, 3));
  await device.close();
  world.devices.set("pv0", null);
  await expect(world.open()).rejects.toMatchObject({ code: "IO" });
  const reading = await world.open(false);
  const into = new Uint8Array(3);
  await reading.read(5, into);
  expect([...into]).toEqual([1, 2, 3]);
});

test("a mirror's leg that breaks fails the write; the next opening copies from the first", async () => {
  const world = await raidWorld({ type: "mirror", mirrors: 1 }, { disks: 3 });
  const device = await world.open();
  world.disks[1]!.broken = { write: true };
  await expect(device.write(70000, new Uint8Array(100).fill(7))).rejects.toBeInstanceOf(DiskError);
  world.disks[1]!.broken = {};
  await device.close();
  await (await world.open()).close();
  expect(Buffer.compare(world.bytesOf("lv_mimage_0"), world.bytesOf("lv_mimage_1"))).toBe(0);
});
