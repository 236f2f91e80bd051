/** What a guest reads and writes through its ring is what the device behind it holds, and nothing stays mapped. */
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { defineDevice } from "#src/block/device.js";
import { lenderOf } from "#src/block/lent-read.js";
import { memoryDevice } from "#src/block/memory.js";
import { describeBlockDevice } from "../contract/block-device.js";
import { type PairOptions, ringPair } from "./ring-pair.js";

/** Every two values of any two columns meet in some row: 5 ring sizes, 4 queue counts, 3 request sizes, and three times two. */
const COMBINATIONS: PairOptions[] = [
  { pages: 1, queues: 1, maxSegments: 11, persistent: false, protocol: "x86_64-abi", sectorSize: 512 },
  { pages: 1, queues: 2, maxSegments: 32, persistent: true, protocol: "x86_32-abi", sectorSize: 4096 },
  { pages: 1, queues: 3, maxSegments: 256, persistent: true, protocol: "x86_64-abi", sectorSize: 512 },
  { pages: 1, queues: 4, maxSegments: 32, persistent: false, protocol: "x86_32-abi", sectorSize: 512 },
  { pages: 2, queues: 1, maxSegments: 32, persistent: true, protocol: "x86_32-abi", sectorSize: 4096 },
  { pages: 2, queues: 2, maxSegments: 11, persistent: false, protocol: "x86_64-abi", sectorSize: 512 },
  { pages: 2, queues: 3, maxSegments: 256, persistent: false, protocol: "x86_32-abi", sectorSize: 512 },
  { pages: 2, queues: 4, maxSegments: 11, persistent: true, protocol: "x86_64-abi", sectorSize: 4096 },
  { pages: 4, queues: 1, maxSegments: 256, persistent: false, protocol: "x86_32-abi", sectorSize: 4096 },
  { pages: 4, queues: 2, maxSegments: 11, persistent: true, protocol: "x86_32-abi", sectorSize: 512 },
  { pages: 4, queues: 3, maxSegments: 32, persistent: false, protocol: "x86_64-abi", sectorSize: 512 },
  { pages: 4, queues: 4, maxSegments: 256, persistent: true, protocol: "x86_64-abi", sectorSize: 4096 },
  { pages: 8, queues: 1, maxSegments: 32, persistent: true, protocol: "x86_64-abi", sectorSize: 4096 },
  { pages: 8, queues: 2, maxSegments: 256, persistent: false, protocol: "x86_64-abi", sectorSize: 512 },
  { pages: 8, queues: 3, maxSegments: 11, persistent: false, protocol: "x86_32-abi", sectorSize: 4096 },
  { pages: 8, queues: 4, maxSegments: 32, persistent: true, protocol: "x86_32-abi", sectorSize: 512 },
  { pages: 16, queues: 1, maxSegments: 256, persistent: true, protocol: "x86_32-abi", sectorSize: 4096 },
  { pages: 16, queues: 2, maxSegments: 32, persistent: false, protocol: "x86_64-abi", sectorSize: 512 },
  { pages: 16, queues: 3, maxSegments: 11, persistent: true, protocol: "x86_64-abi", sectorSize: 512 },
  { pages: 16, queues: 4, maxSegments: 256, persistent: false, protocol: "x86_32-abi", sectorSize: 512 },
];

test("the combinations below cover every pair of values", () => {
  const columns = ["pages", "queues", "maxSegments", "persistent", "protocol", "sectorSize"] as const;
  const values = (column: (typeof columns)[number]) => new Set(COMBINATIONS.map((row) => row[column]));
  expect(columns.map((column) => values(column).size)).toEqual([5, 4, 3, 2, 2, 2]);
  for (const [i, one] of columns.entries())
    for (const other of columns.slice(i + 1)) {
      const met = new Set(COMBINATIONS.map((row) => `${row[one]} ${row[other]}`));
      expect([one, other, met.size]).toEqual([one, other, values(one).size * values(other).size]);
    }
});

describe.each(COMBINATIONS)(
  "$pages pages, $queues queues, $maxSegments segments, persistent $persistent, $protocol, sectors of $sectorSize",
  (options) => {
    describeBlockDevice(
      "blkfront on blkback",
      async ({ size, writable }) => {
        const pair = ringPair(memoryDevice(size, { writable }), options);
        return { device: pair.device, release: () => pair.close() };
      },
      {
        blockSizes: [options.sectorSize!],
        // Past the largest direct request, and no multiple of it.
        size: (blockSize) => 45056 + 4096 * 3 + blockSize * 5 - ((45056 + 4096 * 3) % blockSize),
        runs: 8,
      },
    );

    test("one call larger than the largest request, from anywhere in memory", async () => {
      const pair = ringPair(memoryDevice(3 << 20), options);
      const data = randomBytes((2 << 20) + 4096 * 3);
      await pair.device.write(4096 * 5, data);
      const found = Buffer.alloc(data.length + 1);
      await pair.device.read(4096 * 5, found.subarray(1));
      expect(Buffer.compare(found.subarray(1), data)).toBe(0);
      await pair.close();
    });

    test("what one request can read is lent once, as it is read; the rest is not", async () => {
      const { sectorSize, maxSegments } = options;
      const size = 2 << 20;
      const data = randomBytes(size);
      const pair = ringPair(memoryDevice(data), options);
      const lend = lenderOf(pair.device)!;
      const most = maxSegments! * 4096;
      for (const [offset, length] of [
        [0, sectorSize!],
        [sectorSize! * 3, 8192],
        [size - most, most],
      ] as const) {
        const lent: Buffer[] = [];
        await lend(offset, length, (bytes) => lent.push(Buffer.from(bytes)));
        expect(lent).toHaveLength(1);
        expect(Buffer.compare(lent[0]!, data.subarray(offset, offset + length))).toBe(0);
      }
      const never = () => expect.unreachable();
      expect(lend(0, most + sectorSize!, never)).toBe(null);
      expect(lend(size - sectorSize!, 2 * sectorSize!, never)).toBe(null);
      expect(lend(1, sectorSize!, never)).toBe(null);
      await pair.close();
      expect(grantsInUse(pair)).toBe(0);
    });

    test("many more requests at once than slots, each in its place, and nothing stays mapped", async () => {
      const memory = memoryDevice(4 << 20);
      const pair = ringPair(memory, options);
      const piece = 3 * options.sectorSize!;
      const count = Math.floor((4 << 20) / piece);
      await Promise.all(
        Array.from({ length: count }, (_, i) => pair.device.write(i * piece, new Uint8Array(piece).fill(i))),
      );
      await pair.device.flush();
      const seen = new Uint8Array(4 << 20);
      await memory.read(0, seen);
      for (let i = 0; i < count; i++) expect(seen[i * piece + piece - 1]).toBe(i & 0xff);
      const kept = pair.backs.reduce((sum, back) => sum + back.grants.kept, 0);
      expect(pair.dom0.foreign.mapped).toBe(kept + options.queues! * options.pages!);
      expect(kept > 0).toBe(options.persistent);
      await pair.close();
      expect(pair.dom0.foreign.mapped).toBe(0);
      expect(grantsInUse(pair)).toBe(0);
    });
  },
);

/** Entries of the guest's grant table that are not 0. */
function grantsInUse({ pages1 }: { pages1: { grantTable: SharedArrayBuffer } }): number {
  return new Int32Array(pages1.grantTable).filter((word, i) => i % 2 === 0 && word !== 0).length;
}

test("many requests at once, larger than the ring, each in its place", async () => {
  const memory = memoryDevice(16 << 20);
  const pair = ringPair(memory);
  const writes = Array.from({ length: 256 }, (_, i) => pair.device.write(i * 65536, new Uint8Array(65536).fill(i)));
  await Promise.all(writes);
  await pair.device.flush();
  const seen = new Uint8Array(1);
  for (let i = 0; i < 256; i++) {
    await memory.read(i * 65536 + 65535, seen);
    expect(seen[0]).toBe(i);
  }
  expect(pair.back.statistics.wr_sect).toBe((16 << 20) / 512);
  expect(pair.dom0.foreign.mapped).toBe(1 + pair.back.grants.kept); // the ring itself, and what is kept
  await pair.close();
  expect(pair.dom0.foreign.mapped).toBe(0);
});

test("a failing device fails the request, and the next one works", async () => {
  let failing = true;
  const memory = memoryDevice(65536);
  const pair = ringPair(
    defineDevice({
      label: "flaky",
      size: memory.size,
      read: (offset, into) => (failing ? Promise.reject(new Error("medium error")) : memory.read(offset, into)),
      write: (offset, data) => memory.write(offset, data),
    }),
  );
  await expect(pair.device.read(0, new Uint8Array(4096))).rejects.toMatchObject({ code: "IO" });
  failing = false;
  await pair.device.read(0, new Uint8Array(4096));
  expect(pair.back.statistics.errors).toBe(1);
  await pair.close();
});

test("slow and quick requests overtake each other", async () => {
  const order: string[] = [];
  let release!: () => void;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const memory = memoryDevice(1 << 20);
  const pair = ringPair(
    defineDevice({
      label: "uneven",
      size: memory.size,
      read: async (offset, into) => {
        if (offset === 0) await gate;
        await memory.read(offset, into);
      },
    }),
  );
  const slow = pair.device.read(0, new Uint8Array(512)).then(() => order.push("slow"));
  await pair.device.read(4096, new Uint8Array(512)).then(() => order.push("quick"));
  release();
  await slow;
  expect(order).toEqual(["quick", "slow"]);
  await pair.close();
});

test("closing while requests are under way answers all of them", async () => {
  const memory = memoryDevice(1 << 20);
  const pair = ringPair(memory);
  const reads = Array.from({ length: 64 }, (_, i) => pair.device.read(i * 4096, new Uint8Array(4096)));
  await pair.close();
  await Promise.all(reads);
  await expect(pair.device.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: "IO" });
});

test("a discard reaches the device; a device that cannot still takes the hint", async () => {
  const discarded: number[] = [];
  const pair = ringPair(
    defineDevice({
      label: "discarding",
      size: 1 << 20,
      read: async (_offset, into) => void into.fill(0),
      write: async () => {},
      discard: async (offset, length) => void discarded.push(offset, length),
    }),
  );
  await pair.device.discard(8192, 65536);
  expect(discarded).toEqual([8192, 65536]);
  await pair.close();
});

test("a backend that knows barriers and no flush is asked for a barrier", async () => {
  let flushes = 0;
  const pair = ringPair(
    defineDevice({
      label: "flushing",
      size: 1 << 20,
      read: async () => {},
      write: async () => {},
      flush: async () => void flushes++,
    }),
    { flush: 2 },
  );
  await pair.device.flush();
  expect(flushes).toBe(1);
  await pair.close();
});

test("a guest short of memory uses what slots it has pages for, and gives all of them back", async () => {
  const memory = memoryDevice(4 << 20);
  // Room for three requests of 128 KiB and some of 44 KiB, on a ring of 512.
  const pair = ringPair(memory, { pages: 16, memory: 1 << 20 });
  const data = randomBytes(4 << 20);
  const pieces = Array.from({ length: 32 }, (_, i) => data.subarray(i << 17, (i + 1) << 17));
  await Promise.all(pieces.map((piece, i) => pair.device.write(i << 17, piece)));
  const small = Array.from({ length: 1024 }, () => Buffer.alloc(4096));
  await Promise.all(small.map((into, i) => pair.device.read(i * 4096, into)));
  expect(Buffer.concat(small).equals(data)).toBe(true);
  await pair.close();
  expect(pair.guest.grants.allocatePages(253).count).toBe(253); // all but the three with a fixed use, in one run
});

test("pages that were granted once serve all requests: nothing more is mapped", async () => {
  const pair = ringPair(memoryDevice(1 << 20));
  await pair.device.write(0, new Uint8Array(131072));
  const kept = pair.back.grants.kept;
  expect(kept).toBe(33);
  for (let i = 0; i < 50; i++) await pair.device.read(131072, new Uint8Array(131072));
  expect(pair.back.grants.kept).toBe(kept);
  await pair.close();
});
