/** A power cut after every write of a scenario, and what must be there after it. */
import { expect } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { type FlakyDisk, flakyDisk, type RaidWorld, raidWorld, shapeOf, worldOf } from "./support.js";

const KIB = 1024;

/** Notes each write, and the writes that are durable. */
export class Log {
  readonly writes: { disk: number; offset: number; data: Uint8Array; flushed: number }[] = [];

  /** Every disk tells of its writes from now on. */
  watch(disks: readonly FlakyDisk[]): FlakyDisk[] {
    return disks.map((disk, i) => {
      const watched = flakyDisk(disk.bytes, `disk${i}`);
      const { write, flush } = { write: watched.device.write.bind(watched.device), flush: watched.device.flush };
      watched.device.write = async (offset, data) => {
        await write(offset, data);
        this.writes.push({ disk: i, offset, data: data.slice(), flushed: Infinity });
      };
      watched.device.flush = async () => {
        const upTo = this.writes.length;
        await flush.call(watched.device);
        for (const entry of this.writes.slice(0, upTo))
          if (entry.disk === i && entry.flushed === Infinity) entry.flushed = this.writes.length;
      };
      return watched;
    });
  }

  /** Disks after a cut behind `count` writes; `lossy`: those that were not flushed by then are lost. */
  after(start: readonly Uint8Array[], count: number, lossy: boolean): Uint8Array[] {
    const disks = start.map((bytes) => bytes.slice());
    for (const { disk, offset, data, flushed } of this.writes.slice(0, count))
      if (!lossy || flushed <= count) disks[disk]!.set(data, offset);
    return disks;
  }
}

export async function contentsOf(device: BlockDevice): Promise<Uint8Array> {
  const into = new Uint8Array(device.size);
  await device.read(0, into);
  return into;
}

/** Opened for writing, all legs are alike: taking any spare legs away changes nothing. */
export async function expectAlike(world: RaidWorld, contents: Uint8Array, legs: number, spare: number) {
  const all = world.devices;
  for (let first = 0; first < legs; first++) {
    const lost = Array.from({ length: spare }, (_, i) => (first + i) % legs);
    world.devices = new Map([...all].map(([pv, device], i) => [pv, lost.includes(i) ? null : device]));
    const device = await world.open(false);
    expect(Buffer.compare(await contentsOf(device), contents), `without legs ${lost}`).toBe(0);
    await device.close();
  }
  world.devices = all;
}

/** What was flushed is there, other bytes are old or new ones, and the next opening makes all legs alike. */
export async function expectWholeAfterCuts(type: string, lossy: boolean): Promise<void> {
  const { legs, spare, request } = shapeOf(type);
  const spareLegs = type === "mirror" ? 0 : spare;
  const disks = legs + (type === "mirror" ? 1 : 0);
  const made = await raidWorld({ type, ...request }, { disks, count: 12, size: 2 << 20, extentSize: 16 * KIB });
  const before = await made.open();
  await before.write(0, new Uint8Array(before.size).fill(1));
  await before.close();
  const start = made.disks.map(({ bytes }) => bytes.slice());
  const log = new Log();
  const world = worldOf(made.group, log.watch(made.disks));
  const device = await world.open();
  const flushedAt: number[] = [];
  for (const [fill, offset, length] of [
    [2, 0, 5000],
    [3, 3000, 70000],
    [4, 64 * KIB - 100, 300],
  ] as const) {
    await device.write(offset, new Uint8Array(length).fill(fill));
    await device.flush();
    flushedAt.push(log.writes.length);
  }
  await device.close();
  const final = await contentsOf(await world.open(false));
  for (let cut = 0; cut <= log.writes.length; cut++) {
    const bytes = log.after(start, cut, lossy);
    const left = worldOf(
      made.group,
      bytes.map((each, i) => flakyDisk(each, `disk${i}`)),
    );
    const reopened = await left.open();
    const found = await contentsOf(reopened);
    await reopened.close();
    const done = flushedAt.filter((at) => at <= cut).length;
    expectOldOrNew(found, done, final);
    await expectAlike(left, found, legs, spareLegs);
  }
  expect(log.writes.length).toBeGreaterThan(10);
}

/** Steps 1 to `done` are there; of the next one each byte is old or new, of later ones none. */
function expectOldOrNew(found: Uint8Array, done: number, final: Uint8Array): void {
  const steps = [
    [0, final.length],
    [0, 5000],
    [3000, 73000],
    [64 * KIB - 100, 64 * KIB + 200],
  ] as const;
  const at = (offset: number, upTo: number) =>
    steps.reduce((fill, [from, to], i) => (i <= upTo && offset >= from && offset < to ? i + 1 : fill), 0);
  for (let offset = 0; offset < found.length; offset++) {
    const [old, next] = [at(offset, done), at(offset, done + 1)];
    if (found[offset] !== old && found[offset] !== next)
      throw new Error(`byte ${offset} is ${found[offset]}, allowed ${old} or ${next} (${done} steps flushed)`);
  }
}
