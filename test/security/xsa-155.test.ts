/** XSA-155 (CVE-2015-8550): a backend that reads shared memory twice can be shown two different requests. */
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { defineDevice } from "#src/block/device.js";
import { ABIS } from "#src/xen/blkif/layout.js";
import { BlkifRequest } from "#src/xen/blkif/request.js";
import { OKAY, rawFrontend, settle, verdict, wholePages } from "../xen/raw-frontend.js";

const SIZE = 1 << 20;

describe.each(Object.values(ABIS).map((abi) => [abi.protocol, abi] as const))("%s", (_name, abi) => {
  test("each word of an indirect page is read once, and no word that is not needed", () => {
    const reads = new Map<string, number>();
    const page = new Int32Array(1024).fill(7 << 8);
    const counted = new Proxy(page, {
      get(target, key) {
        reads.set(String(key), (reads.get(String(key)) ?? 0) + 1);
        return Reflect.get(target, key);
      },
    });
    const slot = new Int32Array(abi.stride / 4);
    slot[0] = 6 | (1 << 8) | (200 << 16);
    const limits = { size: SIZE, sectorSize: 512, writable: true, canDiscard: true };
    const request = new BlkifRequest();
    const indirect = {
      maxIndirectSegments: 256,
      readIndirectPage: (_gref: number, judge: (words: ArrayLike<number>) => boolean) => judge(counted),
    };
    expect(request.parse(slot, abi, limits, indirect)).toBe(OKAY);
    expect(request.segments).toBe(200);
    expect(reads).toEqual(new Map(Array.from({ length: 400 }, (_, word) => [String(word), 1])));
  });

  test.each([
    ["direct", 1],
    ["indirect", 6],
  ] as const)("what changes after a %s request was copied changes nothing", async (_what, op) => {
    const seen: [number, number][] = [];
    const device = defineDevice({
      label: "spy",
      size: SIZE,
      read: async () => {},
      write: async (offset, data) => {
        spoil();
        await new Promise((resolve) => setImmediate(resolve));
        seen.push([offset, data.length]);
      },
    });
    const front = rawFrontend({
      abi,
      device,
      foreign: (real) => ({
        map(domid, ref, writable) {
          if (ref !== front.indirectRef) spoil(); // all was judged before the first data page is mapped
          return real.map(domid, ref, writable);
        },
      }),
    });
    const spoil = () => {
      for (let i = 0; i < abi.stride; i++) front.ring.setUint8(64 + i, 0xff);
      front.indirect.bytes.fill(0xff);
    };
    const back = front.connect();
    const segments = wholePages(front, 3).with(1, { gref: front.granted(1), first: 1, last: 2 });
    front.put({ op, inner: 1, segments, sector: 8n, id: 5n });
    await settle(back);
    expect(front.response(0)).toMatchObject({ id: 5n, op: 1, status: OKAY });
    expect(seen).toEqual([
      [4096, 4096],
      [8192, 1024],
      [9216, 4096],
    ]);
    await back.close();
    expect(front.dom0.foreign.mapped).toBe(0);
  });
});

test("a second thread rewrites slot and indirect page all the time", async () => {
  let outside = 0;
  const within = async (offset: number, { length }: Uint8Array) => {
    if (offset < 0 || offset + length > SIZE || length > 16 * 4096 || offset % 512 || length % 512) outside++;
  };
  const device = defineDevice({ label: "guarded", size: SIZE, read: within, write: within });
  const front = rawFrontend({ device });
  const back = front.connect();
  const flag = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(MUTATOR, {
    eval: true,
    workerData: {
      flag,
      memory: front.pages1.memory,
      slots: front.ring.placeOf(0) / 4,
      indirect: front.indirect.bytes.byteOffset / 4,
    },
  });
  while (Atomics.load(flag, 1) === 0) await new Promise((resolve) => setImmediate(resolve));
  try {
    const statuses = new Set<number>();
    for (let i = 0; i < 3000; i++)
      statuses.add(await verdict(front, back, { op: i % 2 ? 6 : 1, inner: 1, segments: wholePages(front, 8) }));
    for (const status of statuses) expect([OKAY, -1, -2]).toContain(status);
    expect(outside).toBe(0);
  } finally {
    Atomics.store(flag, 0, 1);
    await worker.terminate();
  }
  await back.close();
  expect(front.dom0.foreign.mapped).toBe(0);
});

/** Flips one word after the other of all slots and of the indirect page, until it is told to stop. */
const MUTATOR = `
  const { workerData: { flag, memory, slots, indirect } } = require("node:worker_threads");
  const words = new Int32Array(memory);
  const values = [-1, 0, 7 << 8, 8 << 8, 255 << 8, 6 | 1 << 8 | 8 << 16, 1 | 8 << 8, 1 << 30];
  Atomics.store(flag, 1, 1);
  for (let i = 0; Atomics.load(flag, 0) === 0; i++) {
    words[slots + 16 + (i % 896)] = values[i % values.length];
    words[indirect + (i % 16)] = values[(i >> 4) % values.length];
  }
`;
