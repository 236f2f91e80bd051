/** A cut after every write, with every write that was not flushed there or not: snapshots keep what they had, merges go on. */
import { expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { planBeginMerge } from "#src/lvm/changes/merge-snapshot.js";
import { findGroup, scanDevices } from "#src/lvm/scan.js";
import { mergeSnapshot } from "#src/lvm/segments/snapshot/merge.js";
import { recordedDisk } from "../support/power-cut.js";
import { addSnapshot, contents, openNamed, openOrigin } from "./snapshot-support.js";
import { addVolume, type Disk, extents, makeGroup, memoryDisks, seededRandom, writeGroup } from "./support.js";

const KIB = 1024;
const SIZE = 64 * KIB;

/** One disk with `lin` of 64 KiB and its snapshots; `bytes` is what lin held when they were made. */
async function world(chunks: Record<string, number>): Promise<{ disk: Disk; bytes: Buffer }> {
  const [disk] = memoryDisks([2048 * KIB]) as [Disk];
  const options = { extentSize: 4 * KIB, metadataSize: 64 * KIB, dataAlignment: 64 * KIB };
  await writeGroup([disk], addVolume(await makeGroup([disk], options), "lin", { size: extents(16) }));
  const bytes = Buffer.from(seededRandom(11)(SIZE));
  await write(disk, "lin", 0, bytes);
  for (const [name, chunkSize] of Object.entries(chunks))
    await addSnapshot([disk], await groupOn(disk), { name, origin: "lin", size: 30, chunkSize });
  return { disk, bytes };
}

async function write(disk: Disk, name: string, offset: number, data: Uint8Array): Promise<void> {
  const device = await openNamed([disk], name, { writable: true });
  await device.write(offset, data);
  await device.close();
}

const groupOn = async (disk: Disk) => findGroup(await scanDevices([disk]), "vg").group;

async function read(bytes: Uint8Array, name: string, writable: boolean): Promise<Buffer> {
  const disk = { name: "cut", bytes, device: memoryDevice(bytes, { label: "cut" }) };
  const device = await openNamed([disk], name, { writable });
  const found = await contents(device);
  await device.close();
  return found;
}

/** Runs `work` and looks at every state a cut could leave. Returns how many there were. */
async function tryCuts(
  disk: Disk,
  work: (disk: Disk) => Promise<void>,
  look: (state: Uint8Array, cut: string) => Promise<void>,
): Promise<number> {
  const recorded = recordedDisk(disk.bytes, "cut");
  await work({ name: "cut", bytes: disk.bytes, device: recorded.device });
  let cuts = 0;
  for (const state of recorded.states()) await look(state, `cut ${++cuts}`);
  return cuts;
}

test("writes of the origin and of a snapshot", { timeout: 180_000 }, async () => {
  const { disk, bytes } = await world({ a: 4 * KIB, b: 8 * KIB });
  await write(disk, "lin", 0, Buffer.alloc(9 * KIB, 1));
  const lin = await read(disk.bytes, "lin", false);
  const changed = Buffer.alloc(22 * KIB, 2);
  const cuts = await tryCuts(
    disk,
    async (recorded) => {
      await write(recorded, "lin", 5000, changed);
      await write(recorded, "a", 30_000, Buffer.alloc(5000, 3));
    },
    async (state, cut) => {
      for (const writable of [false, true]) {
        expect((await read(Uint8Array.from(state), "b", writable)).equals(bytes), cut).toBe(true);
        const a = await read(Uint8Array.from(state), "a", writable);
        expect(mixed(a, bytes, 30_000, Buffer.alloc(5000, 3)), cut).toBe(true);
        expect(mixed(await read(Uint8Array.from(state), "lin", writable), lin, 5000, changed), cut).toBe(true);
      }
    },
  );
  expect(cuts).toBeGreaterThan(40);
});

test("what a cut left behind the list's end does not come back to life", async () => {
  const { disk, bytes } = await world({ a: 4 * KIB });
  const odd = seededRandom(5);
  await tryCuts(
    disk,
    (recorded) => write(recorded, "lin", 0, Buffer.alloc(48 * KIB, 2)),
    async (state, cut) => {
      const again = { name: "cut", bytes: state, device: memoryDevice(state, { label: "cut" }) };
      const lin = await openNamed([again], "lin", { writable: true });
      for (let at = 0; at < SIZE; at += 4 * KIB) await lin.write(at, odd(4 * KIB));
      await lin.close();
      expect((await read(state, "a", false)).equals(bytes), cut).toBe(true);
    },
  );
});

test("a merge that is cut goes on; the origin has everything at once", { timeout: 180_000 }, async () => {
  const { disk, bytes } = await world({ a: 4 * KIB, b: 8 * KIB });
  const wanted = Buffer.from(bytes);
  for (const [offset, length] of [
    [0, 3000],
    [20_000, 9000],
    [50_000, 4100],
  ] as const) {
    const data = Buffer.alloc(length, offset % 251);
    await write(disk, "a", offset, data);
    data.copy(wanted, offset);
  }
  await write(disk, "lin", 8192, Buffer.alloc(8192, 9)); // is taken back by the merge
  await writeGroup([disk], planBeginMerge(await groupOn(disk), "a").group);
  const merge = async (recorded: { device: BlockDevice; name: string }) => {
    const { shared, close } = await openOrigin([recorded], "lin");
    await mergeSnapshot(shared);
    await close();
  };
  const cuts = await tryCuts(disk, merge, async (state, cut) => {
    for (const writable of [false, true])
      expect((await read(Uint8Array.from(state), "lin", writable)).equals(wanted), cut).toBe(true);
    expect((await read(Uint8Array.from(state), "b", false)).equals(bytes), cut).toBe(true);
    await merge({ name: "cut", device: memoryDevice(state, { label: "cut" }) });
    expect((await read(state, "lin", false)).equals(wanted), cut).toBe(true);
    expect((await read(state, "b", false)).equals(bytes), cut).toBe(true);
  });
  expect(cuts).toBeGreaterThan(20);
});

/** Whether every byte of the range is the old or the new one, and all others are as before. */
function mixed(found: Buffer, old: Buffer, offset: number, data: Buffer): boolean {
  return found.every(
    (byte, at) => byte === old[at] || (at >= offset && at < offset + data.length && byte === data[at - offset]),
  );
}
