/** Dom0 alone is privileged, and a guest's thread reaches its own memory and what was granted to it, nothing else. */
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { Hypervisor } from "#src/xen/platform/simulated/hypervisor.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { localTransport } from "#src/xen/xenstore/transport.js";

const EPERM = expect.objectContaining({ code: "DENIED", details: { errno: "EPERM" } });

function twoGuests() {
  const xen = new Hypervisor(1 << 20);
  const [one, other] = [xen.create(1 << 20).pages, xen.create(1 << 20).pages];
  const guest = simulatedPlatform(one, 0);
  guest.introduce(peerView(xen.dom0));
  guest.introduce(peerView(other));
  return { xen, guest, one, other };
}

describe("what Xen refuses a guest with EPERM", () => {
  test("ports of other domains: to allocate, ask about or reset", () => {
    const { xen, guest, other } = twoGuests();
    for (const domid of [0, other.domid, 99]) {
      expect(() => guest.hypercalls.allocUnbound(guest.domid, domid)).toThrow(EPERM);
      expect(() => guest.hypercalls.portStatus(1, domid)).toThrow(EPERM);
      expect(() => guest.hypercalls.reset(domid)).toThrow(EPERM);
    }
    expect(xen.platform.hypercalls.portStatus(1, other.domid)).toMatchObject({ state: "unbound" });
    expect(xen.platform.hypercalls.allocUnbound(guest.domid, other.domid)).toBe(3);
    xen.platform.hypercalls.reset(other.domid);
    expect(xen.platform.hypercalls.portStatus(1, other.domid)).toEqual({ state: "closed" });
    expect(() => xen.platform.hypercalls.reset(99)).toThrow(expect.objectContaining({ details: { errno: "ESRCH" } }));
  });

  test("grant tables of other domains: to ask about or let grow", () => {
    const { xen, guest, other } = twoGuests();
    for (const domid of [0, other.domid, 99]) {
      expect(guest.hypercalls.querySize(domid)).toEqual({ status: GNTST.permission_denied, frames: 0, maxFrames: 0 });
      expect(guest.hypercalls.setupTable(64, domid)).toBe(GNTST.permission_denied);
    }
    expect(xen.platform.hypercalls.querySize(other.domid)).toEqual({ status: GNTST.okay, frames: 1, maxFrames: 64 });
    expect(xen.platform.hypercalls.setupTable(2, other.domid)).toBe(GNTST.okay);
    expect(xen.platform.hypercalls.querySize(99).status).toBe(GNTST.bad_domain);
    expect(xen.platform.hypercalls.setupTable(2, 99)).toBe(GNTST.bad_domain);
  });

  test("the store's INTRODUCE, RELEASE and RESUME", async () => {
    const { xen, one, other } = twoGuests();
    const xenstored = new Xenstored({ domainExists: (domid) => xen.isAlive(domid) });
    xenstored.introduce(one.domid);
    const store = new XenstoreClient(localTransport(xenstored, one.domid));
    await expect(store.introduce(other.domid, 1, 1)).rejects.toMatchObject({ code: "DENIED" });
    await expect(store.release(other.domid)).rejects.toMatchObject({ code: "DENIED" });
    expect(xenstored.isIntroduced(other.domid)).toBe(false);
  });
});

test("what was not granted to a domain it cannot map, even where it holds the memory", () => {
  const { xen, other } = twoGuests();
  const driver = simulatedPlatform(xen.create(1 << 20).pages, 0);
  driver.introduce(other);
  const granter = simulatedPlatform(other, 0);
  const { firstFrame } = granter.grants.allocatePages(1);
  const forDom0 = granter.grants.grantAccess(0, firstFrame, false);
  const forDriver = granter.grants.grantAccess(driver.domid, firstFrame, true);
  expect(driver.foreign.map(other.domid, forDom0, false)).toBe(GNTST.general_error);
  expect(driver.foreign.map(other.domid, 0, false)).toBe(GNTST.general_error); // the console, Dom0's
  expect(driver.foreign.map(other.domid, forDriver, true)).toBe(GNTST.general_error);
  expect(driver.foreign.map(other.domid, forDriver, false)).toBeGreaterThanOrEqual(0);
});

test("a guest's thread is handed no other domain's memory, and its drivers no shared words of others at all", async () => {
  const { xen, one, other } = twoGuests();
  const secret = Buffer.from("what only its owner may read");
  for (const pages of [xen.dom0, other])
    for (const memory of [pages.memory, pages.grantTable])
      for (let at = 0; at < memory.byteLength; at += 4096) new Uint8Array(memory).set(secret, at);
  const worker = new Worker(GUEST, {
    eval: true,
    workerData: {
      module: import.meta.resolve("#src/xen/platform/simulated/platform.js"),
      own: one,
      others: [peerView(xen.dom0), peerView(other)],
      secret,
    },
  });
  const found = await new Promise<Record<string, unknown>>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  await worker.terminate();
  expect(found).toEqual({
    // All that the thread was given, searched byte by byte; `own` is searched too.
    buffers: 4 + 2 * 2,
    withSecret: 0,
    // All that its drivers can get at by way of their platform.
    ownThroughPlatform: true,
    othersThroughPlatform: 0,
    maps: [GNTST.bad_domain, GNTST.bad_domain],
  });
});

/** Walks everything that can be reached from what it was given, and from the platform that its drivers use. */
const GUEST = `
  const { parentPort, workerData: { module, own, others, secret } } = require("node:worker_threads");
  function sharedBuffers(roots) {
    const seen = new Set();
    const found = new Set();
    const todo = [...roots];
    while (todo.length > 0) {
      const value = todo.pop();
      if ((typeof value !== "object" && typeof value !== "function") || value === null || seen.has(value)) continue;
      seen.add(value);
      if (value instanceof SharedArrayBuffer) found.add(value);
      else if (ArrayBuffer.isView(value)) todo.push(value.buffer);
      else {
        for (const key of Reflect.ownKeys(value)) {
          const property = Object.getOwnPropertyDescriptor(value, key);
          todo.push("value" in property ? property.value : undefined);
        }
        if (value instanceof Map) todo.push(...value.keys(), ...value.values());
        if (value instanceof Set) todo.push(...value);
        todo.push(Object.getPrototypeOf(value));
      }
    }
    return found;
  }
  import(module).then(({ simulatedPlatform }) => {
    const platform = simulatedPlatform(own, 0);
    for (const other of others) platform.introduce(other);
    const buffers = sharedBuffers([own, others]);
    const withSecret = [...buffers].filter((buffer) => Buffer.from(buffer).includes(Buffer.from(secret)));
    // The own pages come to light by what the platform gives out; names of private fields do not.
    const page = platform.grants.allocatePages(1);
    const ofOthers = new Set(others.flatMap(({ sharedInfo, xen }) => [sharedInfo, xen]));
    const reached = [...sharedBuffers([platform, page])];
    parentPort.postMessage({
      buffers: buffers.size,
      withSecret: withSecret.length,
      ownThroughPlatform: reached.includes(own.memory),
      othersThroughPlatform: reached.filter((buffer) => ofOthers.has(buffer)).length,
      maps: others.map(({ domid }) => platform.foreign.map(domid, 8, false)),
    });
  });
`;
