/** What a guest sends is answered with blkback's verdict, never thrown, and leaves nothing mapped (xen-blkback, XSA-71, 155, 216, 349). */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { BlkbackQueue } from "#src/xen/blkback-queue.js";
import { ABIS, type BlkifAbi } from "#src/xen/blkif/layout.js";
import { limitsOf, twoDomains } from "./ring-pair.js";

const SIZE = 1 << 20;
const OKAY = 0;
const ERROR = -1;
const EOPNOTSUPP = -2;

interface Slot {
  op: number;
  segments?: { gref: number; first: number; last: number }[];
  nrSegments?: number;
  sector?: bigint;
  nrSectors?: bigint;
  id?: bigint;
}

/** A frontend that writes whatever it is told into its ring. */
function rawFrontend(options: { writable?: boolean; abi?: BlkifAbi; sectorSize?: number; start?: number } = {}) {
  const { dom0, guest } = twoDomains();
  const abi = options.abi ?? ABIS["x86_64-abi"]!;
  const memory = memoryDevice(SIZE, { writable: options.writable ?? true });
  const page = guest.grants.allocatePages(1);
  const data = guest.grants.allocatePages(11);
  const view = new DataView(page.bytes.buffer, page.bytes.byteOffset, 4096);
  const start = options.start ?? 0;
  for (const word of [0, 8]) view.setUint32(word, start, true);
  for (const word of [4, 12]) view.setUint32(word, (start + 1) >>> 0, true);
  const ringRef = guest.grants.grantAccess(0, page.firstFrame, false);
  const eventChannel = guest.events.allocUnbound(0);
  const device = memory;
  const connect = () =>
    new BlkbackQueue(
      dom0,
      device,
      limitsOf(device, options.sectorSize),
      { frontendDomid: 1, ringRefs: [ringRef], eventChannel, abi },
      () => {},
    );
  let produced = start;
  const put = ({ op, segments = [], nrSegments, sector = 0n, nrSectors, id = 7n }: Slot) => {
    const at = 64 + (produced & 31) * abi.stride;
    for (let i = 0; i < abi.stride; i++) view.setUint8(at + i, 0xee); // what an earlier request left
    view.setUint8(at, op);
    view.setUint8(at + 1, nrSegments ?? segments.length);
    view.setBigUint64(at + abi.idWord * 4, id, true);
    view.setBigUint64(at + abi.sectorWord * 4, sector, true);
    if (nrSectors !== undefined) view.setBigUint64(at + abi.nrSectorsWord * 4, nrSectors, true);
    for (const [i, segment] of segments.entries()) {
      view.setUint32(at + abi.segmentWord * 4 + i * 8, segment.gref, true);
      view.setUint8(at + abi.segmentWord * 4 + i * 8 + 4, segment.first);
      view.setUint8(at + abi.segmentWord * 4 + i * 8 + 5, segment.last);
    }
    produced = (produced + 1) >>> 0;
    view.setUint32(0, produced, true);
  };
  const response = (index: number) => {
    const at = 64 + (index & 31) * abi.stride;
    return {
      id: view.getBigUint64(at, true),
      op: view.getUint8(at + 8),
      pad: view.getUint8(at + 9),
      status: view.getInt16(at + 10, true),
    };
  };
  return { dom0, guest, memory, view, data, connect, put, response, rspProd: () => view.getUint32(8, true) };
}

async function settle(queue: BlkbackQueue): Promise<void> {
  queue.take();
  for (let i = 0; i < 100 && queue.inFlight > 0; i++) await new Promise((resolve) => setImmediate(resolve));
  queue.publish();
}

let front: ReturnType<typeof rawFrontend>;
let back: BlkbackQueue;
const readable = () => front.guest.grants.grantAccess(0, front.data.firstFrame, true);
const granted = (i = 0) => front.guest.grants.grantAccess(0, front.data.firstFrame + i, false);

async function verdict(slot: Slot): Promise<number> {
  const index = front.rspProd();
  front.put(slot);
  await settle(back);
  expect(front.rspProd()).toBe((index + 1) >>> 0);
  expect(back.failure).toBeUndefined();
  expect(front.dom0.foreign.mapped).toBe(1); // every data page is unmapped again
  return front.response(index).status;
}

describe.each(Object.values(ABIS).map((abi) => [abi.protocol, abi] as const))("%s", (_name, abi) => {
  beforeEach(() => {
    front = rawFrontend({ abi });
    back = front.connect();
  });
  afterEach(() => back.close());

  const seg = (first = 0, last = 7) => ({ gref: granted(), first, last });

  test("good requests", async () => {
    front.data.bytes.fill(0x5a);
    expect(await verdict({ op: 1, segments: [seg()], sector: 8n })).toBe(OKAY);
    expect(await verdict({ op: 1, segments: [{ gref: readable(), first: 2, last: 3 }], sector: 0n })).toBe(OKAY);
    front.data.bytes.fill(0);
    expect(await verdict({ op: 0, segments: [seg(1, 2)], sector: 8n })).toBe(OKAY);
    expect([...front.data.bytes.subarray(510, 514)]).toEqual([0, 0, 0x5a, 0x5a]);
    expect([...front.data.bytes.subarray(1534, 1538)]).toEqual([0x5a, 0x5a, 0, 0]);
    expect(await verdict({ op: 3 })).toBe(OKAY);
    expect(await verdict({ op: 3, segments: [seg()], sector: 16n })).toBe(OKAY);
    expect(await verdict({ op: 5, sector: 0n, nrSectors: 8n })).toBe(OKAY);
  });

  test("id is echoed whole, operation too, padding is zero, the rest of the slot untouched", async () => {
    const id = 0xfedc_ba98_7654_3210n;
    front.put({ op: 0, segments: [seg()], id });
    await settle(back);
    expect(front.response(0)).toEqual({ id, op: 0, pad: 0, status: 0 });
    expect(front.view.getUint8(64 + abi.stride - 1)).toBe(0xee);
  });

  test.each<[string, number, Partial<Slot> | (() => Partial<Slot>)]>([
    ["unknown operation", EOPNOTSUPP, { op: 4 }],
    ["indirect, which is not offered", EOPNOTSUPP, { op: 6 }],
    ["operation 255", EOPNOTSUPP, { op: 255 }],
    ["no segments", ERROR, { op: 0 }],
    ["twelve segments", ERROR, { op: 0, nrSegments: 12 }],
    ["255 segments", ERROR, { op: 1, nrSegments: 255 }],
    ["last before first", ERROR, () => ({ op: 0, segments: [seg(3, 2)] })],
    ["sector 8 of a page", ERROR, () => ({ op: 0, segments: [seg(0, 8)] })],
    ["sector 255 of a page", ERROR, () => ({ op: 1, segments: [seg(0, 255)] })],
    ["one sector past the end", ERROR, () => ({ op: 0, segments: [seg(0, 1)], sector: BigInt(SIZE / 512 - 1) })],
    ["far past the end", ERROR, () => ({ op: 1, segments: [seg()], sector: 1n << 40n })],
    ["sector that wraps 64 bits", ERROR, () => ({ op: 1, segments: [seg()], sector: 0xffff_ffff_ffff_fff8n })],
    ["grant that does not exist", ERROR, { op: 0, segments: [{ gref: 12345, first: 0, last: 7 }] }],
    ["grant beyond the table", ERROR, { op: 0, segments: [{ gref: 0xffff_ffff, first: 0, last: 7 }] }],
    ["read into a read-only grant", ERROR, () => ({ op: 0, segments: [{ gref: readable(), first: 0, last: 7 }] })],
    ["second of two grants is bad", ERROR, () => ({ op: 1, segments: [seg(), { gref: 9999, first: 0, last: 7 }] })],
    ["discard past the end", ERROR, { op: 5, sector: BigInt(SIZE / 512), nrSectors: 1n }],
    ["discard that wraps", ERROR, { op: 5, sector: 8n, nrSectors: 0xffff_ffff_ffff_ffffn }],
  ])("%s", async (_what, expected, slot) => {
    expect(await verdict({ op: 0, ...(typeof slot === "function" ? slot() : slot) })).toBe(expected);
    const untouched = new Uint8Array(SIZE);
    await front.memory.read(0, untouched);
    expect(untouched.every((byte) => byte === 0)).toBe(true);
    expect(await verdict({ op: 0, segments: [seg()] })).toBe(OKAY); // and the ring goes on
  });

  test("a request that fails in its last segment writes none of it", async () => {
    front.data.bytes.fill(1);
    expect(await verdict({ op: 1, segments: [seg(), { gref: granted(1), first: 4, last: 1 }], sector: 0n })).toBe(
      ERROR,
    );
    const untouched = new Uint8Array(4096);
    await front.memory.read(0, untouched);
    expect(untouched.every((byte) => byte === 0)).toBe(true);
  });
});

test("a read-only disk refuses every kind of write", async () => {
  front = rawFrontend({ writable: false });
  back = front.connect();
  const segments = [{ gref: granted(), first: 0, last: 7 }];
  expect(await verdict({ op: 1, segments })).toBe(ERROR);
  expect(await verdict({ op: 3, segments })).toBe(ERROR);
  expect(await verdict({ op: 5, nrSectors: 8n })).toBe(ERROR);
  expect(await verdict({ op: 0, segments })).toBe(OKAY);
  await back.close();
});

test("4096-byte sectors: units stay 512, alignment is 4096", async () => {
  front = rawFrontend({ sectorSize: 4096 });
  back = front.connect();
  const gref = granted();
  expect(await verdict({ op: 0, segments: [{ gref, first: 0, last: 7 }], sector: 8n })).toBe(OKAY);
  expect(await verdict({ op: 0, segments: [{ gref, first: 0, last: 7 }], sector: 4n })).toBe(ERROR);
  expect(await verdict({ op: 0, segments: [{ gref, first: 0, last: 3 }], sector: 8n })).toBe(ERROR);
  await back.close();
});

test("indices wrap at 2^32", async () => {
  front = rawFrontend({ start: 0xffff_fff0 });
  back = front.connect();
  for (let i = 0; i < 40; i++) expect(await verdict({ op: 3 })).toBe(OKAY);
  expect(front.rspProd()).toBe(24);
  await back.close();
});

test.each([33, 1000, 0x8000_0000, 0xffff_ffff])("a producer index %i ahead stops the ring for good", async (ahead) => {
  front = rawFrontend();
  back = front.connect();
  front.view.setUint32(0, ahead, true);
  expect(back.take()).toBe(0);
  expect(back.failure).toMatchObject({ code: "PROTOCOL" });
  front.view.setUint32(0, 1, true); // too late to be good again
  expect(back.take()).toBe(0);
  expect(back.finalCheck()).toBe(false);
  await back.close();
  expect(front.dom0.foreign.mapped).toBe(0);
});

test("impossible indices at connect are refused, and nothing stays mapped", () => {
  front = rawFrontend();
  front.view.setUint32(0, 500, true);
  expect(() => front.connect()).toThrow(/500 requests, allowed 32/);
  expect(front.dom0.foreign.mapped).toBe(0);
});

test("each slot is read once: a change after the copy does not matter", async () => {
  front = rawFrontend();
  let seen: number[] = [];
  const spy = defineDevice({
    label: "spy",
    size: SIZE,
    read: async (offset, into) => {
      front.view.setBigUint64(64 + 16, 2047n, true); // the guest moves the request while it runs
      front.view.setUint8(64 + 1, 200);
      await new Promise((resolve) => setImmediate(resolve));
      seen = [offset, into.length];
    },
  });
  const eventChannel = front.guest.events.allocUnbound(0);
  const page = front.guest.grants.allocatePages(1);
  page.bytes.set(new Uint8Array(front.view.buffer, front.view.byteOffset, 4096));
  front.view = new DataView(page.bytes.buffer, page.bytes.byteOffset, 4096);
  const ringRef = front.guest.grants.grantAccess(0, page.firstFrame, false);
  back = new BlkbackQueue(
    front.dom0,
    spy,
    limitsOf(spy),
    { frontendDomid: 1, ringRefs: [ringRef], eventChannel, abi: ABIS["x86_64-abi"]! },
    () => {},
  );
  const { view } = front;
  view.setUint8(64, 0);
  view.setUint8(65, 1);
  view.setBigUint64(64 + 16, 8n, true);
  view.setUint32(64 + 24, granted(), true);
  view.setUint8(64 + 28, 0);
  view.setUint8(64 + 29, 7);
  view.setUint32(0, 1, true);
  await settle(back);
  expect(seen).toEqual([4096, 4096]);
  await back.close();
});
