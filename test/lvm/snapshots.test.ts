/** An origin with two snapshots against plain buffers; overflow, readers beside a writer. */
import { expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { findGroup, scanDevices } from "#src/lvm/scan.js";
import { addSnapshot, contents, openNamed, openStore } from "./snapshot-support.js";
import { addVolume, type Disk, extents, MIB, makeGroup, memoryDisks, seededRandom, writeGroup } from "./support.js";

const SIZE = MIB;
const KIB = 1024;

/** An origin of 1 MiB with random contents, written before there is a snapshot. */
async function origin(): Promise<{ disks: Disk[]; bytes: Buffer }> {
  const disks = memoryDisks([6 * MIB, 6 * MIB]);
  await writeGroup(disks, addVolume(await makeGroup(disks), "lin", { size: extents(SIZE / (64 * KIB)) }));
  const bytes = Buffer.from(seededRandom(3)(SIZE));
  await using(disks, "lin", (device) => device.write(0, bytes));
  return { disks, bytes };
}

async function using<T>(disks: Disk[], name: string, work: (device: BlockDevice) => Promise<T>, writable = true) {
  const device = await openNamed(disks, name, { writable });
  try {
    return await work(device);
  } finally {
    await device.close();
  }
}

const groupOn = async (disks: Disk[]) => findGroup(await scanDevices(disks), "vg").group;

test.each([1, 2, 3])("origin and two snapshots are what buffers are, seed %i", async (seed) => {
  const { disks, bytes } = await origin();
  await addSnapshot(disks, await groupOn(disks), { name: "a", origin: "lin", size: 40, chunkSize: 4 * KIB });
  await addSnapshot(disks, await groupOn(disks), { name: "b", origin: "lin", size: 40, chunkSize: 16 * KIB });
  const models = new Map(["lin", "a", "b"].map((name) => [name, Buffer.from(bytes)]));
  const random = seededRandom(seed);
  const below = (limit: number) => Buffer.from(random(4)).readUInt32LE() % limit;
  for (let round = 0; round < 4; round++) {
    const open = new Map<string, BlockDevice>();
    for (const name of models.keys()) open.set(name, await openNamed(disks, name, { writable: true }));
    for (let step = 0; step < 12; step++) {
      const batch: Promise<void>[] = [];
      const touched = new Set<string>();
      for (let k = 0; k < 6; k++) {
        const name = [...models.keys()][below(3)]!;
        const offset = below(SIZE - 1);
        const length = 1 + below(Math.min(SIZE - offset, below(4) === 0 ? 100_000 : 5000));
        // Overlapping writes of one device at once have no order.
        const overlaps = [...touched].some((range) => {
          const [other, from, to] = range.split(" ");
          return other === name && Number(from) < offset + length && offset < Number(to);
        });
        if (overlaps) continue;
        touched.add(`${name} ${offset} ${offset + length}`);
        const kind = below(5);
        const data = kind === 0 ? Buffer.alloc(length) : Buffer.alloc(length, below(256));
        batch.push(kind === 0 ? open.get(name)!.zero(offset, length) : open.get(name)!.write(offset, data));
        data.copy(models.get(name)!, offset);
      }
      await Promise.all(batch);
      for (const [name, model] of models) expect((await contents(open.get(name)!)).equals(model), name).toBe(true);
    }
    for (const device of open.values()) await device.close();
    for (const [name, model] of models)
      await using(
        disks,
        name,
        async (device) => expect((await contents(device)).equals(model), name).toBe(true),
        false,
      );
  }
});

test("a reader of a snapshot follows who writes the origin", async () => {
  const { disks, bytes } = await origin();
  await addSnapshot(disks, await groupOn(disks), { name: "a", origin: "lin", size: 40 });
  const reader = await openNamed(disks, "a");
  await using(disks, "lin", async (device) => {
    for (let at = 0; at < SIZE; at += 64 * KIB) {
      const [, seen] = await Promise.all([device.write(at + 100, Buffer.alloc(50 * KIB, 7)), contents(reader)]);
      expect(seen.equals(bytes)).toBe(true);
    }
  });
  expect((await contents(reader)).equals(bytes)).toBe(true);
  await reader.close();
});

test("a snapshot that overflows is lost and says so, its origin goes on", async () => {
  const { disks } = await origin();
  await addSnapshot(disks, await groupOn(disks), { name: "small", origin: "lin", size: 2 });
  const told: string[] = [];
  const reader = await openNamed(disks, "small");
  const device = await openNamed(disks, "lin", { writable: true, warn: (text) => told.push(text) });
  await device.write(0, Buffer.alloc(SIZE, 5));
  expect((await contents(device)).equals(Buffer.alloc(SIZE, 5))).toBe(true);
  await device.close();
  expect(told).toEqual(["WARNING: Snapshot small is invalid from now on: its store is full."]);
  await expect(contents(reader)).rejects.toThrow(/invalid/);
  await reader.close();
  await using(disks, "small", async (snapshot) => {
    await expect(snapshot.write(0, Buffer.alloc(10))).rejects.toThrow(/invalid/);
  });
  const group = await groupOn(disks);
  const store = await openStore(disks, group, "small");
  const header = Buffer.alloc(16);
  await store.read(0, header);
  expect(header.toString("hex")).toBe("536e417000000000" + "0100000008000000");
});

test("the last exception that would fill an area without one behind it does not fit", async () => {
  const disks = memoryDisks([6 * MIB]);
  await writeGroup(disks, addVolume(await makeGroup(disks, { extentSize: 4096 }), "lin", { size: extents(400) }));
  // Header, area, 256 data chunks: nothing is left for the next area.
  await addSnapshot(disks, await groupOn(disks), { name: "s", origin: "lin", size: 258 });
  await using(disks, "lin", (device) => device.write(0, Buffer.alloc(255 * 4096, 1)));
  await using(
    disks,
    "s",
    async (snapshot) => expect((await contents(snapshot)).equals(Buffer.alloc(400 * 4096))).toBe(true),
    false,
  );
  await using(disks, "lin", (device) => device.write(255 * 4096, Buffer.alloc(4096, 1)));
  await using(disks, "s", (snapshot) => expect(contents(snapshot)).rejects.toThrow(/invalid/), false);
});
