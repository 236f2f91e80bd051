/** What an attached disk says of its holes: the truth of its image, through the whole disk, its partitions and NBD. */
import { closeSync, openSync, readFileSync, statSync, writeSync } from "node:fs";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { zeroRuns } from "#src/block/runs.js";
import { storedRuns } from "#src/dom0/stored-runs.js";
import { connectNbd } from "#src/nbd/client.js";
import { tool } from "../interop/nbd-support.js";
import { havePeer } from "../support/peers.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { xvdWorld } from "../support/xvd.js";
import { testHost } from "./host-support.js";
import { move, twoHosts } from "./two-hosts.js";

const MIB = 1 << 20;
const SIZE = 16 * MIB;
const dir = tempDir();
let t: Awaited<ReturnType<typeof testHost>>;

beforeAll(async () => {
  t = await testHost(dir);
});
afterAll(() => t.host.stop());

/** `[what, length]` in order; neighbours of one kind are one. */
async function map(device: BlockDevice, offset = 0, length = device.size - offset): Promise<[string, number][]> {
  const runs: [string, number][] = [];
  for await (const run of zeroRuns(device, offset, length)) runs.push([run.zero ? "hole" : "data", run.length]);
  return runs;
}

/** The map as Dom0 tells it. Where it is too busy to tell, all is data: then the question is asked again. */
async function told(device: BlockDevice, offset = 0, length = device.size - offset): Promise<[string, number][]> {
  const silence = [["data", length]];
  return vi.waitUntil(
    async () => {
      const found = await map(device, offset, length);
      return JSON.stringify(found) !== JSON.stringify(silence) && found;
    },
    { timeout: 20_000 },
  );
}

/** A sparse disk with 64 KiB of data at 5 MiB. */
function sparseDisk(name: string): string {
  const path = createRawDisk(dir, name, SIZE);
  const fd = openSync(path, "r+");
  writeSync(fd, Buffer.alloc(65536, 7), 0, 65536, 5 * MIB);
  closeSync(fd);
  return path;
}

const SPARSE = [
  ["hole", 5 * MIB],
  ["data", 65536],
  ["hole", 11 * MIB - 65536],
];

async function attached(name: string) {
  const disk = sparseDisk(`${name}.dsk`);
  await t.host.createDomain(name);
  await t.host.attach({ disk, domain: name });
  return { disk, client: await connectNbd(t.socket(name)) };
}

test("writes are data and zeros are holes as soon as they are answered; a crashed backend and a resize change nothing", async () => {
  const { client } = await attached("web");
  expect(await told(client)).toEqual(SPARSE);
  for (let i = 0; i < 40; i++) {
    const offset = 8 * MIB + i * 8192;
    await client.write(offset, Buffer.alloc(4096, 9));
    expect(await told(client, offset, 8192)).toEqual([
      ["data", 4096],
      ["hole", 4096],
    ]);
  }
  await client.zero(5 * MIB, 4 * MIB);
  expect(await told(client)).toEqual([["hole", SIZE]]);
  await client.write(MIB, Buffer.alloc(512, 1));
  await t.host.crashBackend("xvda", "web");
  expect(await told(client, 0, 2 * MIB)).toEqual([
    ["hole", MIB],
    ["data", 4096],
    ["hole", MIB - 4096],
  ]);
  await client.close();
  await t.host.resize("xvda", { domain: "web", size: 32 * MIB });
  const larger = await connectNbd(t.socket("web"));
  await larger.write(31 * MIB, Buffer.alloc(4096, 1));
  expect(await told(larger, 30 * MIB, 2 * MIB)).toEqual([
    ["hole", MIB],
    ["data", 4096],
    ["hole", MIB - 4096],
  ]);
  await larger.close();
});

test("a domain that moved away is not told of this host's disk: it reads everything", async () => {
  const { a, b, disk } = await twoHosts();
  try {
    const client = await connectNbd(a.socket("web"));
    expect(await told(client)).toEqual([["hole", statSync(disk).size]]);
    await move(a, b);
    expect(await map(client)).toEqual([["data", client.size]]);
    const there = await connectNbd(b.socket("web"));
    expect(await told(there)).toEqual([["hole", client.size]]);
    await there.close();
    await client.close();
  } finally {
    await a.stop();
    await b.stop();
  }
});

test.skipIf(!havePeer("nbdinfo", "nbdcopy"))("nbdinfo and nbdcopy, by the sockets of disk and partition", async () => {
  const world = xvdWorld();
  await world.xvd("create", "a.dsk", "64M");
  await world.xvd("part", "init", "a.dsk", "gpt");
  await world.xvd("part", "add", "a.dsk", "--size", "32M");
  await world.xvd("io", "a.dsk#p1", "-c", "write -P 5 8M 1M");
  const { socket } = await world.json<{ socket: string }>("attach", "a.dsk");
  const runs = async (uri: string): Promise<{ offset: number; length: number; type: number }[]> =>
    JSON.parse(await tool("nbdinfo", "--map", "--json", uri));
  const [HOLE, DATA] = [3, 0];
  expect(await runs(`nbd+unix:///?socket=${socket}1`)).toMatchObject([
    { offset: 0, length: 8 * MIB, type: HOLE },
    { offset: 8 * MIB, length: MIB, type: DATA },
    { offset: 9 * MIB, length: 23 * MIB, type: HOLE },
  ]);
  const whole = await runs(`nbd+unix:///?socket=${socket}`);
  expect(whole.find(({ type }) => type === DATA)).toMatchObject({ offset: 0 });
  expect(whole).toContainEqual(expect.objectContaining({ offset: 9 * MIB, length: MIB, type: DATA }));
  await tool("nbdcopy", `nbd+unix:///?socket=${socket}`, world.path("copied.img"));
  await world.xvd("clone", "dom:0/xvda", "cloned.dsk");
  const image = readFileSync(world.path("a.dsk"));
  for (const copy of ["copied.img", "cloned.dsk"]) {
    expect([copy, readFileSync(world.path(copy)).equals(image)]).toEqual([copy, true]);
    expect(statSync(world.path(copy)).blocks * 512).toBeLessThan(2 * MIB);
  }
});

test.each([
  ["behind the end", SIZE, 512],
  ["from before the start", -512, 1024],
  ["part of a sector", 0, 100],
  ["from within a sector", 100, 512],
  ["no number", Number.NaN, 512],
  ["an endless length", 0, Number.POSITIVE_INFINITY],
  ["no text", "0" as unknown as number, 512],
  ["nothing", 0, 0],
])("a guest that asks for %s is told nothing", async (_what, offset, length) => {
  expect(await storedRuns(memoryDevice(SIZE), { size: SIZE, sectorSize: 512 }, offset, length)).toEqual([]);
});

/** Blocks of 512 bytes, each a run of its own; `looks` counts the runs that were looked at. */
function comb(size: number, zero: (block: number) => boolean) {
  const told = { looks: 0 };
  async function* extents(offset: number, length: number) {
    for (let at = offset; at < offset + length; at += 512) {
      told.looks++;
      const hole = zero(at / 512);
      yield { offset: at, length: 512, data: !hole, zero: hole, present: true, depth: 0, hostOffset: null };
    }
  }
  return { told, device: Object.assign(memoryDevice(size), { extents }) };
}

test("an answer is bounded, in runs and in work, and holds whole sectors that the guest sees", async () => {
  const { told, device } = comb(SIZE, (block) => block % 2 === 0);
  const many = await storedRuns(device, { size: SIZE, sectorSize: 512 }, 0, SIZE);
  expect(many).toHaveLength(1024);
  expect(many.slice(0, 2)).toEqual([
    { length: 512, data: false, zero: true },
    { length: 512, data: true, zero: false },
  ]);
  const large = await storedRuns(device, { size: SIZE, sectorSize: 4096 }, 0, 16384);
  expect(large).toEqual([{ length: 16384, data: true, zero: false }]);
  const clipped = await storedRuns(device, { size: 4096, sectorSize: 512 }, 3584, SIZE);
  expect(clipped).toEqual([{ length: 512, data: true, zero: false }]);

  const alike = comb(SIZE, () => true);
  const [first, ...others] = await storedRuns(alike.device, { size: SIZE, sectorSize: 512 }, 0, SIZE);
  expect(others).toEqual([]);
  expect(first!.length).toBe(alike.told.looks * 512);
  expect(alike.told.looks).toBeLessThan(10_000);
  expect(told.looks).toBeLessThan(10_000);
});
