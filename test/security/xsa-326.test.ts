/** XSA-326, XSA-416 and XSA-512 (CVE-2022-42311 to 42318, CVE-2022-42319): a guest makes xenstored use up the host's memory. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { Hypervisor } from "#src/xen/platform/simulated/hypervisor.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { ownXenstorePage } from "#src/xen/platform/simulated/xenstore-page.js";
import { VcpuLoop } from "#src/xen/vcpu-loop.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { DEFAULT_QUOTAS } from "#src/xen/xenstore/quotas.js";
import { XenstoreRings } from "#src/xen/xenstore/ring-server.js";
import { ringTransport } from "#src/xen/xenstore/ring-transport.js";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { ManualClock } from "../xen/xenstore/manual-clock.js";
import { type RawGuest, RingHost } from "../xen/xenstore/ring-host.js";

/** Above the quota by what one request can add. */
const BOUND = DEFAULT_QUOTAS.memoryHard + 8192;

function setUp() {
  const clock = new ManualClock();
  const notices: string[] = [];
  const host = new RingHost({ clock, onNotice: (text) => notices.push(text) });
  const [hostile, other] = [host.guest(1), host.guest(2)];
  const bytes = () => host.xenstored.memory(1);
  return { clock, notices, host, hostile, other, bytes };
}

/** At the rate that is every guest's while there are transactions. */
function othersGoOn(host: RingHost, other: RawGuest, clock: ManualClock): void {
  for (let i = 0; i < 50; i++) {
    clock.advance(10);
    expect(other.write("data/k", String(i))).toBe("OK");
  }
  expect(host.dom0.write("/x", "1")).toBe("OK");
  expect(host.xenstored.store.tree.inconsistencies()).toEqual([]);
}

test("replies that nobody reads: twenty, then no request is looked at", () => {
  const { clock, host, hostile, other, bytes } = setUp();
  hostile.write("data/k", "v".repeat(2000));
  const before = bytes();
  hostile.reads = false;
  for (let i = 0; i < 5000; i++) hostile.send("READ", ["data/k"]);
  host.run();
  expect(bytes() - before).toBeLessThan(21 * 2100);
  othersGoOn(host, other, clock);
  hostile.reads = true;
  host.run();
  expect(hostile.received.filter(({ text }) => text.length === 2000)).toHaveLength(5000);
  expect(bytes()).toBe(before);
});

test("watch events that nobody reads: bounded, merged, and gone after twenty seconds", () => {
  const { clock, host, hostile, other, bytes } = setUp();
  host.dom0.chmod("/local/domain/1/data", "b1");
  for (let i = 0; i < 100; i++) hostile.ask("WATCH", ["data", `${i}${"t".repeat(1000)}`]);
  const before = bytes();
  hostile.reads = false;
  for (let i = 0; i < 600; i++) host.dom0.write(`/local/domain/1/data/${i % 200}`, String(i));
  host.run();
  expect(bytes()).toBeGreaterThan(before + 100_000);
  expect(bytes()).toBeLessThan(BOUND);
  othersGoOn(host, other, clock);
  clock.advance(19_499);
  expect(bytes()).toBeGreaterThan(before + 100_000);
  clock.advance(1);
  expect(bytes()).toBeLessThan(before + 200 * 40); // Dom0's nodes belong to nobody else
  hostile.reads = true;
  hostile.received.length = 0;
  expect(hostile.ask("READ", ["data/1"])).not.toBeUndefined();
  othersGoOn(host, other, clock);
});

test("transactions that touch what they can: stopped at the quota, told once, and all given back", () => {
  const { clock, host, hostile, other, bytes, notices } = setUp();
  const transactions = Array.from({ length: 10 }, () => Number(hostile.ask("TRANSACTION_START")));
  for (const tx of transactions)
    for (let i = 0; i < 1000; i++) hostile.send("READ", [`data/${i}${"x".repeat(2000)}`], tx);
  host.run();
  expect(bytes()).toBeGreaterThan(DEFAULT_QUOTAS.memorySoft);
  expect(bytes()).toBeLessThan(BOUND);
  expect(notices).toHaveLength(1);
  expect(notices[0]).toContain("domain 1");
  othersGoOn(host, other, clock);
  // Introduced again, its kernel starts with nothing.
  hostile.forget();
  hostile.introduce();
  expect(bytes()).toBeLessThan(1000);
  expect(hostile.write("data/k", "v")).toBe("OK");
});

test("nodes, watches and writes within a transaction count together; what Dom0 takes away lets the guest go on", () => {
  const { clock, host, hostile, other, bytes } = setUp();
  for (let i = 0; i < 128; i++) hostile.send("WATCH", ["elsewhere", `${i}${"t".repeat(3900)}`]);
  for (let i = 0; i < 1000; i++) hostile.send("WRITE", [`data/${i % 30}/${i}`], 0, "v".repeat(1900));
  host.run();
  expect(bytes()).toBeLessThan(BOUND);
  const tx = hostile.ask("TRANSACTION_START");
  for (let i = 0; i < 1000; i++) hostile.send("WRITE", [`data/${i % 30}/${i}`], Number(tx), "w".repeat(1900));
  host.run();
  expect(bytes()).toBeLessThan(BOUND);
  expect(hostile.ask("READ", ["data"])).toBeUndefined(); // over its quota
  othersGoOn(host, other, clock);
  const served = () => hostile.received.filter(({ name }) => name !== "WATCH_EVENT").length;
  const before = served();
  host.dom0.rm("/local/domain/1/data");
  host.run();
  expect(served()).toBeGreaterThan(before); // until its transaction has used that up too
  expect(bytes()).toBeLessThan(BOUND);
});

test("destroyed at its worst, it leaves nothing", () => {
  const { clock, host, hostile, bytes } = setUp();
  hostile.reads = false;
  for (let i = 0; i < 300; i++) {
    hostile.send("WATCH", ["data", `${i}`]);
    hostile.send("WRITE", [`data/${i}`], 0, "v".repeat(500));
    hostile.send("TRANSACTION_START");
  }
  host.run();
  host.xenstored.release(1);
  host.run();
  expect(bytes()).toBe(0);
  expect(clock.pending).toBe(0);
  expect(host.xenstored.usage().map(({ domid }) => domid)).toEqual([0, 2]);
  expect(host.xenstored.store.openTransactions).toBe(0);
  expect(host.xenstored.store.tree.inconsistencies()).toEqual([]);
});

test("requests without end from one domain leave the others and Dom0's event loop their turns", async () => {
  const hypervisor = new Hypervisor(1 << 16);
  const loop = new VcpuLoop(hypervisor.platform.vcpu, { blocking: false, spins: 0, passesPerTurn: 4 });
  const rings = new XenstoreRings({ platform: hypervisor.platform, loop });
  const xenstored: Xenstored = new Xenstored({
    onIntroduce: (domid, _frame, port) => rings.connect(xenstored, domid, port),
  });
  const [hostile, polite] = [hypervisor.create(1 << 16), hypervisor.create(1 << 16)];
  for (const { pages, xenstorePort } of [hostile, polite]) xenstored.introduce(pages.domid, 1, xenstorePort);
  void loop.run();
  const storm = new Worker(STORM, {
    eval: true,
    workerData: { own: hostile.pages, dom0: peerView(hypervisor.dom0), port: hostile.xenstorePort, dist: DIST },
  });
  try {
    await once(storm, "message"); // a thousand requests are answered
    const own = simulatedPlatform(polite.pages, 0);
    own.introduce(peerView(hypervisor.dom0));
    const politeLoop = new VcpuLoop(own.vcpu, { blocking: false, spins: 0 });
    void politeLoop.run();
    const words = ownXenstorePage(polite.pages);
    const store = new XenstoreClient(ringTransport({ words, events: own.events, port: polite.xenstorePort }));
    for (let i = 0; i < 100; i++) expect(await store.getDomainPath(i)).toBe(`/local/domain/${i}`);
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 1));
    politeLoop.stop();
  } finally {
    await storm.terminate();
    loop.stop();
  }
});

const DIST = new URL("../../dist/xen/", import.meta.url).href;

/** Writes requests as fast as they are taken, and throws the replies away. */
const STORM = `
  const { parentPort, workerData: { own, dom0, port, dist } } = require("node:worker_threads");
  (async () => {
    const { simulatedPlatform } = await import(dist + "platform/simulated/platform.js");
    const { ownXenstorePage } = await import(dist + "platform/simulated/xenstore-page.js");
    const { XenstoreRing } = await import(dist + "xenstore/ring.js");
    const { encodeMessage, MESSAGE_TYPES } = await import(dist + "xenstore/wire.js");
    const platform = simulatedPlatform(own, 0);
    platform.introduce(dom0);
    const ring = new XenstoreRing(ownXenstorePage(own), "client");
    const payload = Buffer.from("1\\0");
    const request = encodeMessage({ type: MESSAGE_TYPES.GET_DOMAIN_PATH, reqId: 1, txId: 0, payload });
    let rest = request;
    for (let sent = 0; ; ) {
      const written = ring.write(rest);
      rest = written < rest.length ? rest.subarray(written) : request;
      const took = ring.read() !== undefined;
      if (written > 0 || took) platform.events.notify(port);
      if (rest === request && ++sent === 1000) parentPort.postMessage("busy");
    }
  })();`;
