/** Volumes as devices: every byte where linear, striped and raid0 put it, on other sizes of extents, stripes and blocks. */
import { describe, expect, test } from "vitest";
import { openVolume } from "#src/lvm/activate.js";
import type { Segment, VolumeGroup } from "#src/lvm/metadata.js";
import { readGroupText } from "#src/lvm/read-group.js";
import { scanDevices } from "#src/lvm/scan.js";
import {
  addVolume,
  type Disk,
  extents,
  MIB,
  makeGroup,
  memoryDisks,
  referenceText,
  seededRandom,
  valueGroup,
  writeGroup,
} from "./support.js";

const devicesOf = async (disks: readonly Disk[]) => {
  const { members } = (await scanDevices(disks)).groups[0]!;
  return new Map([...members].map(([name, pv]) => [name, pv?.device ?? null]));
};

/** The formulas of the fact sheet's section 3.1, byte by byte, without any of our code. */
function placeOf(group: VolumeGroup, segment: Segment, offset: number): { pv: string; byte: number } {
  const inside = offset - segment.start * group.extentSize;
  const stripes = segment.areas.length;
  const field = segment.fields.find(({ key }) => key === "stripe_size");
  const chunk = field?.kind === "assign" ? Number(field.value) * 512 : group.extentSize;
  const k = Math.floor(inside / chunk);
  const [stripe, at] = stripes === 1 ? [0, inside] : [k % stripes, Math.floor(k / stripes) * chunk + (inside % chunk)];
  const area = segment.areas[stripe]!;
  if (area.kind !== "pv") throw new Error("only on physical volumes");
  const pv = group.physicalVolumes.find(({ name }) => name === area.pv)!;
  return { pv: area.pv, byte: pv.peStart + area.pe * group.extentSize + at };
}

describe.each([
  [64 << 10, 1, 1],
  [4096, 1, 4096],
  [384 << 10, 1, 512],
] as const)("extents of %i bytes", (extentSize, _one, blockSize) => {
  test.each([
    [1, 4096],
    [2, 4096],
    [3, 16384],
  ])("%i stripes of %i bytes", async (stripes, stripeSize) => {
    const disks = memoryDisks([4 * MIB, 5 * MIB, 6 * MIB], blockSize);
    let group = await makeGroup(disks, { extentSize });
    group = addVolume(group, "first", { size: extents(1) });
    group = await writeGroup(
      disks,
      addVolume(group, "lv", { size: extents(stripes * 3), stripes, ...(stripes > 1 ? { stripeSize } : {}) }),
    );
    const volume = group.logicalVolumes.find(({ name }) => name === "lv")!;
    const device = await openVolume(group, "lv", await devicesOf(disks), { writable: true });
    const contents = seededRandom(3)(device.size);
    const around = disks.map(({ bytes }) => bytes.slice());
    await device.write(0, contents);
    const patch = seededRandom(4)(Math.min(device.size - 4000, 3 * stripeSize + 77));
    await device.write(4000, patch);
    contents.set(patch, 4000);
    await device.flush();
    const expected = around.map((bytes) => bytes.slice());
    for (let offset = 0; offset < device.size; offset++) {
      const { pv, byte } = placeOf(
        group,
        volume.segments.find((segment) => offset < (segment.start + segment.count) * extentSize)!,
        offset,
      );
      expected[Number(pv.slice(2))]![byte] = contents[offset]!;
    }
    for (const [i, { bytes }] of disks.entries()) expect(Buffer.compare(bytes, expected[i]!)).toBe(0);
    const back = new Uint8Array(device.size);
    await device.read(0, back);
    expect(Buffer.compare(back, contents)).toBe(0);
    let covered = 0;
    for await (const { offset, length } of device.extents(0, device.size)) {
      expect(offset).toBe(covered);
      covered += length;
    }
    expect(covered).toBe(device.size);
  });
});

test("raid0 by its images, as striped would lie", async () => {
  const { group } = readGroupText(referenceText(), "text");
  const disks = memoryDisks([64 * MIB, 64 * MIB, 1]);
  const devices = new Map([
    ["pv0", disks[0]!.device],
    ["pv1", disks[1]!.device],
    ["pv2", null],
  ]);
  const device = await openVolume(group, "r0", devices, { writable: true });
  const contents = seededRandom(8)(device.size);
  await device.write(0, contents);
  const images = await Promise.all(["r0_rimage_0", "r0_rimage_1"].map((name) => openVolume(group, name, devices)));
  for (const [i, image] of images.entries()) {
    const bytes = new Uint8Array(image.size);
    await image.read(0, bytes);
    for (let row = 0; row * 16384 < image.size; row++)
      expect(
        Buffer.compare(
          bytes.subarray(row * 16384, (row + 1) * 16384),
          contents.subarray((row * 2 + i) * 16384, (row * 2 + i + 1) * 16384),
        ),
      ).toBe(0);
  }
});

test("what this version does not serve says its type; parts of it can be read", async () => {
  const { group } = readGroupText(referenceText(), "text");
  const devices = new Map(group.physicalVolumes.map(({ name }) => [name, memoryDisks([1])[0]!.device]));
  for (const [name, type] of [
    ["pool", "thin-pool"],
    ["snapshot0", "snapshot"],
  ] as const)
    await expect(openVolume(group, name, devices)).rejects.toThrow(
      expect.objectContaining({ code: "UNSUPPORTED", details: { segmentType: type } }),
    );
  expect((await openVolume(group, "r1_rimage_0", devices)).size).toBe(4 * MIB);
  await expect(openVolume(group, "nothing", devices)).rejects.toThrow(/Failed to find logical volume "vgref\/nothing"/);
});

test("error fails, zero reads zeros and forgets what is written", async () => {
  let group = addVolume(valueGroup([4]), "z", { size: extents(2), type: "zero" });
  group = addVolume(group, "e", { size: extents(1), type: "error" });
  const zero = await openVolume(group, "z", new Map(), { writable: true });
  await zero.write(100, Uint8Array.of(1, 2, 3));
  const into = new Uint8Array(8).fill(9);
  await zero.read(98, into);
  expect([...into]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  const error = await openVolume(group, "e", new Map(), { writable: true });
  await expect(error.read(0, into)).rejects.toMatchObject({
    code: "IO",
    message: expect.stringContaining("of type error"),
  });
  await expect(error.write(0, into)).rejects.toMatchObject({ code: "IO" });
});

test("a missing device fails its own extents only; a device that is too small fails what lies behind its end", async () => {
  const disks = memoryDisks([4 * MIB, 4 * MIB]);
  const group = await writeGroup(disks, addVolume(await makeGroup(disks), "lv", { size: extents(60) }));
  const extentSize = group.extentSize;
  const devices = await devicesOf(disks);
  const into = new Uint8Array(512);
  const partial = await openVolume(
    group,
    "lv",
    new Map([
      ["pv0", devices.get("pv0")!],
      ["pv1", null],
    ]),
  );
  await partial.read(0, into);
  await expect(partial.read(59 * extentSize, into)).rejects.toMatchObject({
    code: "IO",
    message: expect.stringMatching(/pv|physical volume .* is missing/),
  });
  const short = memoryDisks([2 * MIB])[0]!.device;
  const cut = await openVolume(
    group,
    "lv",
    new Map([
      ["pv0", short],
      ["pv1", devices.get("pv1")!],
    ]),
  );
  await cut.read(0, into);
  await expect(cut.read(47 * extentSize, into)).rejects.toMatchObject({
    code: "IO",
    message: expect.stringContaining("behind the end"),
  });
});

test("read-only volumes and groups are not written", async () => {
  const group = addVolume(valueGroup([4]), "lv", { size: extents(1), readOnly: true });
  const devices = new Map([["pv0", memoryDisks([20 * MIB])[0]!.device]]);
  const isWritable = async (opened: VolumeGroup) =>
    (await openVolume(opened, "lv", devices, { writable: true })).writable;
  expect(await isWritable(group)).toBe(false);
  const writable = addVolume(valueGroup([4]), "lv", { size: extents(1) });
  expect(await isWritable(writable)).toBe(true);
  expect(await isWritable({ ...writable, status: ["READ", "RESIZEABLE"] })).toBe(false);
});
