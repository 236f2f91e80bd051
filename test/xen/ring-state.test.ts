/** What both halves tell of a ring, and how long a backend keeps what nobody uses. */
import { expect, test } from "vitest";
import { defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { MAX_PERSISTENT_GRANTS, UNUSED_MS } from "#src/xen/blkback-grants.js";
import { totalLatency } from "#src/xen/blkback-statistics.js";
import { GNTST } from "#src/xen/platform/platform.js";
import { ERROR, OKAY, rawFrontend, settle, verdict, wholePages } from "./raw-frontend.js";
import { ringPair } from "./ring-pair.js";

test("the indices of both halves are those of the shared ring, and every batch was told or not asked for", async () => {
  let release!: () => void;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const memory = memoryDevice(1 << 20);
  const pair = ringPair(
    defineDevice({
      label: "gated",
      size: memory.size,
      read: async (offset, into) => {
        if (offset === 0) await gate;
        await memory.read(offset, into);
      },
    }),
  );
  for (let i = 1; i <= 10; i++) await pair.device.read(i * 4096, new Uint8Array(4096));
  const waiting = Array.from({ length: 40 }, () => pair.device.read(0, new Uint8Array(4096)));
  while (pair.back.inFlight < 32) await new Promise((resolve) => setImmediate(resolve));
  expect(pair.back.state).toMatchObject({ size: 32, req_prod: 42, req_cons: 42, rsp_prod: 10, in_flight: 32 });
  expect(pair.front.queues[0]!.state).toMatchObject({
    size: 32,
    req_prod: 42,
    rsp_cons: 10,
    in_flight: 32,
    waiting: 8,
  });
  release();
  await Promise.all(waiting);
  await pair.close();
  // Also after both ends let the ring go.
  const { notified, suppressed, rsp_event, port, ...back } = pair.back.state;
  expect(back).toEqual({
    size: 32,
    req_prod: 50,
    req_cons: 50,
    req_event: 51,
    rsp_prod: 50,
    in_flight: 0,
    mapped_grants: 0,
    persistent_grants: 0,
  });
  expect(rsp_event).toBeLessThanOrEqual(51);
  expect(port).toBeGreaterThan(0);
  expect(notified).toBeGreaterThanOrEqual(10);
  expect(notified + suppressed).toBeLessThanOrEqual(50);
  const front = pair.front.queues[0]!.state;
  expect(front).toMatchObject({
    req_prod: 50,
    rsp_prod: 50,
    rsp_cons: 50,
    in_flight: 0,
    waiting: 0,
    max_segments: 32,
  });
  expect(front.rsp_event).toBeLessThanOrEqual(51); // it asks to be told only when nothing came for a while
  expect(front.notified + front.suppressed).toBeGreaterThanOrEqual(11);
});

test("a backend that starts where another one stopped counts on from there, across the wrap of the indices", async () => {
  const front = rawFrontend({ start: 2 ** 32 - 3 });
  const back = front.connect();
  for (let i = 0; i < 6; i++) expect(await verdict(front, back, { op: 3 })).toBe(OKAY);
  expect(back.state).toMatchObject({ req_prod: 3, req_cons: 3, rsp_prod: 3 });
});

test("each request's latency is from its batch's beginning to its answer's publication; a refused one has none", async () => {
  let now = 1000;
  const front = rawFrontend({ now: () => now });
  const back = front.connect();
  const took = async (ms: number) => {
    back.take();
    for (let i = 0; i < 200 && back.inFlight > 0; i++) await new Promise((resolve) => setImmediate(resolve));
    now += ms;
    back.publish();
  };
  front.put({ op: 0, segments: wholePages(front, 1) });
  front.put({ op: 6, inner: 0, segments: wholePages(front, 2) });
  front.put({ op: 1, segments: wholePages(front, 1) });
  await took(0.25);
  front.put({ op: 3 });
  front.put({ op: 2 });
  front.put({ op: 5, nrSectors: 8n });
  await took(2);
  await took(50); // the discard: nothing is taken while a barrier is under way
  front.put({ op: 9 });
  front.put({ op: 1, segments: [{ gref: 31_000, first: 0, last: 7 }] });
  await took(8);
  const { read, write, flush, discard } = totalLatency([back]);
  expect([read.count, write.count, flush.count, discard.count]).toEqual([2, 1, 2, 1]);
  expect([read.sum, write.sum, flush.sum, discard.sum]).toEqual([500, 250, 4000, 50_000]);
  expect(read.buckets).toEqual([[256, 2]]);
  expect(back.statistics).toMatchObject({ errors: 2, rd_req: 2, wr_req: 1, f_req: 2, ds_req: 1 });
});

test("requests refused for want of pages are counted as oo_req, others are not", async () => {
  let full = false;
  const front = rawFrontend({
    foreign: (real) => ({ map: (...of) => (full ? GNTST.no_space : real.map(...of)) }),
  });
  const back = front.connect();
  full = true;
  expect(await verdict(front, back, { op: 1, segments: wholePages(front, 3) })).toBe(ERROR);
  full = false;
  expect(await verdict(front, back, { op: 1, segments: [{ gref: 31_000, first: 0, last: 7 }] })).toBe(ERROR);
  expect(await verdict(front, back, { op: 1, segments: wholePages(front, 3) })).toBe(OKAY);
  expect(back.statistics).toMatchObject({ oo_req: 1, errors: 2, wr_req: 1 });
});

test("a kept grant that nobody used for a minute is unmapped; one that is used, or in use, stays", async () => {
  let release!: () => void;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const memory = memoryDevice(1 << 20, { writable: true });
  const device = defineDevice({
    label: "gated",
    size: memory.size,
    read: (offset, into) => (offset === 512 ? gate : memory.read(offset, into)),
    write: (offset, data) => memory.write(offset, data),
  });
  const front = rawFrontend({ persistent: true, device });
  const back = front.connect();
  const [rare, often, held] = [0, 1, 2].map((i) => ({ gref: front.granted(i), first: 0, last: 0 }));
  let now = 1_000_000;
  back.grants.dropUnused(now);
  for (const segment of [rare!, often!]) expect(await verdict(front, back, { op: 0, segments: [segment] })).toBe(OKAY);
  front.put({ op: 0, segments: [held!], sector: 1n });
  back.take();
  for (; now < 1_000_000 + UNUSED_MS; now += 10_000) {
    back.grants.dropUnused(now);
    expect(back.grants.kept).toBe(3);
    front.put({ op: 0, segments: [often!] });
    back.take();
    while (back.inFlight > 1) await new Promise((resolve) => setImmediate(resolve));
  }
  back.grants.dropUnused(now);
  expect(back.grants.kept).toBe(2);
  expect(front.guest.grants.endAccess(rare!.gref)).toBe(true);
  for (const { gref } of [often!, held!]) expect(front.guest.grants.clearAccess(gref)).toBe(false);
  release();
  await settle(back);
  back.grants.dropUnused((now += UNUSED_MS));
  back.grants.dropUnused((now += UNUSED_MS));
  expect(back.grants.kept).toBe(0);
  expect(back.state.persistent_grants).toBe(0);
  await back.close();
  expect(front.dom0.foreign.mapped).toBe(0);
});

test("over the cap the least recently used five percent go", async () => {
  const front = rawFrontend({ persistent: true });
  const back = front.connect();
  const refs = Array.from({ length: MAX_PERSISTENT_GRANTS + 1 }, (_, i) =>
    front.guest.grants.grantAccess(0, front.data.firstFrame + (i % 256), false),
  );
  for (const gref of refs.slice(0, -1)) await verdict(front, back, { op: 0, segments: [{ gref, first: 0, last: 0 }] });
  expect(back.grants.kept).toBe(MAX_PERSISTENT_GRANTS);
  await verdict(front, back, { op: 0, segments: [{ gref: refs.at(-1)!, first: 0, last: 0 }] });
  expect(back.grants.kept).toBe(MAX_PERSISTENT_GRANTS - 53 + 1);
  expect(front.guest.grants.clearAccess(refs[52]!)).toBe(true);
  expect(front.guest.grants.clearAccess(refs[53]!)).toBe(false);
});

test("the frontend uses again what it used last: one page serves all requests that come one after the other", async () => {
  const pair = ringPair(memoryDevice(1 << 20), { maxSegments: 11 });
  await Promise.all(Array.from({ length: 20 }, (_, i) => pair.device.read(i * 4096, new Uint8Array(4096))));
  const kept = pair.back.grants.kept;
  expect(kept).toBe(20);
  for (let i = 0; i < 100; i++) await pair.device.read(0, new Uint8Array(4096));
  pair.back.grants.dropUnused(0);
  for (let i = 0; i < 100; i++) await pair.device.read(0, new Uint8Array(4096));
  pair.back.grants.dropUnused(UNUSED_MS);
  expect(pair.back.grants.kept).toBe(1);
  await pair.close();
});
