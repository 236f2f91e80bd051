/** What blkfront and blkback write into xenstore, and what they make of each other's keys (blkif.h, Linux in behaviour). */
import { randomBytes } from "node:crypto";
import { afterEach, describe, expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import {
  BACKEND_OFFERS,
  type BackendOffers,
  FRONTEND_WISHES,
  type FrontendWishes,
  readFrontendKeys,
} from "#src/xen/blkif/features.js";
import { BACKEND, FRONTEND, splitHost } from "./split-host.js";

const NOTHING: BackendOffers = { maxRingPageOrder: 0, maxQueues: 1, maxIndirectSegments: 0, persistent: false };
const OFFER_KEYS = ["feature-max-indirect-segments", "multi-queue-max-queues", "max-ring-page-order"];
const RING_KEYS = ["ring-page-order", "multi-queue-num-queues", "protocol", "feature-persistent"];

let host: Awaited<ReturnType<typeof splitHost>>;
afterEach(() => host.stop());

async function writesAndReads(device: BlockDevice): Promise<void> {
  const data = randomBytes(300_032);
  await device.write(5 * 512, data);
  await device.flush();
  const found = Buffer.alloc(data.length);
  await device.read(5 * 512, found);
  expect(found.equals(data)).toBe(true);
  await host.disk.read(5 * 512, found);
  expect(found.equals(data)).toBe(true);
}

async function attached(offers?: BackendOffers, wishes?: FrontendWishes): Promise<BlockDevice> {
  host = await splitHost();
  await host.startBlkback(offers);
  await host.startBlkfront(wishes);
  const device = host.next();
  await host.attach();
  return device;
}

test("by themselves: the keys that Linux writes, one queue of one page, 128 KiB requests, persistent grants", async () => {
  const device = await attached();
  expect(await host.keys(BACKEND, OFFER_KEYS)).toEqual({
    "feature-max-indirect-segments": "256",
    "multi-queue-max-queues": "4",
    "max-ring-page-order": "4",
  });
  const connect = ["feature-flush-cache", "feature-barrier", "feature-persistent", "feature-discard", "discard-secure"];
  expect(Object.values(await host.keys(BACKEND, connect))).toEqual(["1", "1", "1", "1", "0"]);
  expect(await host.keys(FRONTEND, RING_KEYS)).toEqual({
    "ring-page-order": null,
    "multi-queue-num-queues": null,
    protocol: "x86_64-abi",
    "feature-persistent": "1",
  });
  for (const key of ["ring-ref", "event-channel"]) expect(await host.store.read(`${FRONTEND}/${key}`)).toMatch(/^\d+$/);
  await writesAndReads(device);
  const [queue] = host.queues();
  expect(queue!.statistics.wr_req).toBe(Math.ceil(300_032 / 131_072));
  expect(queue!.grants.kept).toBeGreaterThan(30);
  await host.detach();
  expect(host.dom0.foreign.mapped).toBe(0);
  expect(new Int32Array(host.pages1.grantTable).filter((word, i) => i % 2 === 0 && word !== 0)).toHaveLength(0);
  expect(host.errors).toEqual([]);
});

test("several queues of several pages: below queue-N, and no ring at the top", async () => {
  const device = await attached(undefined, { ...FRONTEND_WISHES, maxQueues: 3, maxRingPageOrder: 2 });
  expect(await host.keys(FRONTEND, RING_KEYS)).toMatchObject({ "ring-page-order": "2", "multi-queue-num-queues": "3" });
  const names = await host.store.directory(FRONTEND);
  for (const absent of ["ring-ref", "ring-ref0", "event-channel", "queue-3"]) expect(names).not.toContain(absent);
  for (const queue of ["queue-0", "queue-1", "queue-2"])
    expect((await host.store.directory(`${FRONTEND}/${queue}`)).toSorted()).toEqual([
      "event-channel",
      "ring-ref0",
      "ring-ref1",
      "ring-ref2",
      "ring-ref3",
    ]);
  await Promise.all(Array.from({ length: 30 }, (_, i) => device.write(i * 512, new Uint8Array(512))));
  expect(host.queues().map(({ statistics }) => statistics.wr_req)).toEqual([10, 10, 10]);
  await writesAndReads(device);
  await host.detach();
  expect(host.dom0.foreign.mapped).toBe(0);
});

test.each<[string, Partial<BackendOffers>, Partial<FrontendWishes>]>([
  ["an old backend that offers nothing", NOTHING, { maxQueues: 8, maxRingPageOrder: 4, maxSegments: 256 }],
  ["an old frontend that wants nothing", {}, { maxQueues: 1, maxRingPageOrder: 0, maxSegments: 11, persistent: false }],
  ["fewer queues than wanted", { maxQueues: 2 }, { maxQueues: 4 }],
  ["smaller rings than wanted", { maxRingPageOrder: 1 }, { maxRingPageOrder: 4 }],
  ["fewer segments than wanted", { maxIndirectSegments: 20 }, { maxSegments: 256 }],
  ["so few that direct requests do", { maxIndirectSegments: 5 }, { maxSegments: 256 }],
  ["more segments than one page describes", { maxIndirectSegments: 4096 }, { maxSegments: 4096 }],
  ["persistent grants on one side only", { persistent: false }, { persistent: true }],
  ["persistent grants on the other side only", { persistent: true }, { persistent: false }],
  ["a 32-bit frontend", {}, { protocol: "x86_32-abi", maxRingPageOrder: 4, maxQueues: 2 }],
])("the lesser of both: %s", async (_what, offers, wishes) => {
  const [offered, wanted] = [
    { ...BACKEND_OFFERS, ...offers },
    { ...FRONTEND_WISHES, ...wishes },
  ];
  const device = await attached(offered, wanted);
  expect(await host.keys(BACKEND, OFFER_KEYS)).toEqual({
    "feature-max-indirect-segments": offered.maxIndirectSegments ? String(offered.maxIndirectSegments) : null,
    "multi-queue-max-queues": offered.maxQueues > 1 ? String(offered.maxQueues) : null,
    "max-ring-page-order": offered.maxRingPageOrder ? String(offered.maxRingPageOrder) : null,
  });
  const queues = Math.min(offered.maxQueues, wanted.maxQueues);
  const order = Math.min(offered.maxRingPageOrder, wanted.maxRingPageOrder);
  expect(await host.keys(FRONTEND, RING_KEYS)).toEqual({
    "multi-queue-num-queues": queues > 1 ? String(queues) : null,
    "ring-page-order": order > 0 ? String(order) : null,
    protocol: wanted.protocol,
    "feature-persistent": wanted.persistent ? "1" : "0",
  });
  await writesAndReads(device);
  const segments = Math.max(11, Math.min(offered.maxIndirectSegments, wanted.maxSegments, 512));
  const requests = host.queues().reduce((sum, { statistics }) => sum + statistics.wr_req, 0);
  expect(requests).toBe(Math.ceil(300_032 / (segments * 4096)));
  expect(host.queues()[0]!.grants.kept > 0).toBe(offered.persistent && wanted.persistent);
  await host.detach();
  expect(host.dom0.foreign.mapped).toBe(0);
  expect(host.errors).toEqual([]);
});

test("the next disk comes from a backend with fewer features, and the one after it from one with all again", async () => {
  const rich = { ...FRONTEND_WISHES, maxQueues: 4, maxRingPageOrder: 4 };
  host = await splitHost();
  await host.startBlkfront(rich);
  for (const offers of [BACKEND_OFFERS, NOTHING, BACKEND_OFFERS]) {
    const blkback = await host.startBlkback(offers);
    const device = host.next();
    await host.attach();
    await writesAndReads(await device);
    expect(host.queues()).toHaveLength(offers.maxQueues);
    await host.detach();
    await blkback.stop();
  }
  expect(host.errors).toEqual([]);
});

test("a driver after a driver: what the first left in the directory is not taken for the second's", async () => {
  const device = await attached(undefined, { ...FRONTEND_WISHES, maxQueues: 4, maxRingPageOrder: 3 });
  await writesAndReads(device);
  // The first driver is unloaded: it closes, and the backend lets its rings go.
  await host.guestStore.write(`${FRONTEND}/state`, "6");
  while ((await host.store.read(`${BACKEND}/state`)) !== "6") await new Promise((resolve) => setImmediate(resolve));
  expect(host.dom0.foreign.mapped).toBe(0);
  const second = host.next();
  await host.guestStore.write(`${FRONTEND}/state`, "1");
  await writesAndReads(await second);
  expect(host.connects()).toBe(2);
  // A driver of old, with keys of a ring of one page beside those of the first.
  await host.guestStore.write(`${FRONTEND}/state`, "6");
  while ((await host.store.read(`${BACKEND}/state`)) !== "6") await new Promise((resolve) => setImmediate(resolve));
  for (const key of ["ring-page-order", "multi-queue-num-queues"]) await host.guestStore.rm(`${FRONTEND}/${key}`);
  await host.guestStore.write(`${FRONTEND}/ring-ref`, "31000");
  await host.guestStore.write(`${FRONTEND}/event-channel`, "5");
  const read = (name: string) => host.store.readOrNull(`${FRONTEND}/${name}`);
  expect((await readFrontendKeys(read, BACKEND_OFFERS)).rings).toEqual([{ ringRefs: [31000], eventChannel: 5 }]);
});

describe("a frontend's keys as the backend reads them", () => {
  const judge = (keys: Record<string, string>, offers = BACKEND_OFFERS) =>
    readFrontendKeys(async (name) => keys[name] ?? null, offers);
  const one = { "ring-ref": "8", "event-channel": "3" };

  test("no protocol is x86_32, as in Linux", async () => {
    host = await splitHost();
    expect(await judge(one)).toEqual({
      protocol: "x86_32-abi",
      persistent: false,
      rings: [{ ringRefs: [8], eventChannel: 3 }],
    });
  });

  test("the presence of ring-page-order decides the naming, 0 too", async () => {
    host = await splitHost();
    const both = { ...one, "ring-ref0": "20", "ring-ref1": "21" };
    expect((await judge(both)).rings[0]!.ringRefs).toEqual([8]);
    expect((await judge({ ...both, "ring-page-order": "0" })).rings[0]!.ringRefs).toEqual([20]);
    expect((await judge({ ...both, "ring-page-order": "1" })).rings[0]!.ringRefs).toEqual([20, 21]);
  });

  test("one queue that is counted is at the top, several are not", async () => {
    host = await splitHost();
    const queues = { "queue-0/ring-ref": "30", "queue-0/event-channel": "4" };
    expect((await judge({ ...one, ...queues, "multi-queue-num-queues": "1" })).rings[0]!.ringRefs).toEqual([8]);
    const second = { "queue-1/ring-ref": "31", "queue-1/event-channel": "5" };
    expect((await judge({ ...one, ...queues, ...second, "multi-queue-num-queues": "2" })).rings).toEqual([
      { ringRefs: [30], eventChannel: 4 },
      { ringRefs: [31], eventChannel: 5 },
    ]);
  });

  test.each<[Record<string, string>, RegExp]>([
    [{ "multi-queue-num-queues": "0" }, /^multi-queue-num-queues is "0", allowed 1..4$/],
    [{ "multi-queue-num-queues": "5" }, /^multi-queue-num-queues is "5", allowed 1..4$/],
    [{ "multi-queue-num-queues": "4294967297" }, /^multi-queue-num-queues/],
    [{ "multi-queue-num-queues": "-1" }, /^multi-queue-num-queues/],
    [{ "multi-queue-num-queues": "2" }, /^queue-0\/ring-ref is missing/],
    [{ "ring-page-order": "5" }, /^ring-page-order is "5", allowed 0..4$/],
    [{ "ring-page-order": "1e1" }, /^ring-page-order/],
    [{ "ring-page-order": "1" }, /^ring-ref0 is missing/],
    [{ "ring-ref": "4294967296" }, /^ring-ref is "4294967296"/],
    [{ "ring-ref": "" }, /^ring-ref is ""/],
    [{ "event-channel": "0x3" }, /^event-channel/],
    [{ protocol: "arm-abi" }, /^protocol is "arm-abi", allowed x86_64-abi x86_32-abi$/],
    [{ protocol: "constructor" }, /^protocol/],
  ])("%j is refused", async (keys, reason) => {
    host = await splitHost();
    await expect(judge({ ...one, ...keys })).rejects.toThrow(reason);
  });
});
