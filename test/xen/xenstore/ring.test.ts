/** The shared ring as a polite domain uses it: any start of the indices, bursts, full rings, another kernel on the same page. */
import { afterEach, describe, expect, test } from "vitest";
import { createDomainPages, peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { createXenstorePage, ownXenstorePage } from "#src/xen/platform/simulated/xenstore-page.js";
import { VcpuLoop } from "#src/xen/vcpu-loop.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { XenstoreRings } from "#src/xen/xenstore/ring-server.js";
import { ringTransport } from "#src/xen/xenstore/ring-transport.js";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { RingHost } from "./ring-host.js";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

/** Domain 1 with its page, xenstored's loop and its own; `connect` makes another kernel's client on the same page. */
function domain(prepare: (words: Int32Array) => void = () => {}) {
  const [pages0, pages1] = [createDomainPages(0, 1 << 16), createDomainPages(1, 1 << 16)];
  const [server, own] = [simulatedPlatform(pages0, 31), simulatedPlatform(pages1, 0)];
  server.introduce(pages1);
  own.introduce(peerView(pages0));
  const loops = [server, own].map(({ vcpu }) => new VcpuLoop(vcpu, { blocking: false, spins: 0 }));
  const rings = new XenstoreRings({ platform: server, loop: loops[0]! });
  const xenstored: Xenstored = new Xenstored({
    onIntroduce: (domid, _frame, port) => rings.connect(xenstored, domid, port),
  });
  const { frame, port } = createXenstorePage(pages1);
  prepare(new Int32Array(pages1.memory, 4096, 1024));
  xenstored.introduce(1, frame, port);
  for (const loop of loops) void loop.run();
  cleanups.push(...loops.map((loop) => () => loop.stop()));
  const { store } = xenstored;
  const dom0 = { domid: 0, privileged: true, target: undefined };
  store.mkdir(dom0, store.tree, "/local/domain/1/data");
  store.setPermissions(dom0, store.tree, "/local/domain/1/data", [{ domid: 1, access: 0 }]);
  const transport = () => ringTransport({ words: ownXenstorePage(pages1), events: own.events, port });
  return { xenstored, transport, connect: () => new XenstoreClient(transport()) };
}

describe.each([0, 5, 1023, 0xfffffff0])("indices that start at %i", (start) => {
  test("bursts of requests larger than the ring, and replies larger than the ring", async () => {
    const { connect } = domain((words) => words.fill(start | 0, 512, 516));
    const store = connect();
    const values = Array.from({ length: 40 }, (_, i) => `${i}`.padEnd(1900, "x"));
    await Promise.all(values.map((value, i) => store.write(`data/${i}`, value)));
    expect(await Promise.all(values.map((_, i) => store.read(`data/${i}`)))).toEqual(values);
    expect((await store.directory("data")).length).toBe(40);
  });
});

test("another kernel takes the page over in the midst of everything", async () => {
  const { connect, transport, xenstored } = domain();
  const bootloader = connect();
  await bootloader.watch("data", "t", () => {});
  // What it has sent is under way, or half written: it never hears of it.
  const lost = Array.from({ length: 30 }, (_, i) => bootloader.write("data/k", `${i}`.padEnd(1500, "x")));
  for (const one of lost) one.catch(() => {});
  await Promise.resolve();
  const kernel = connect();
  await kernel.write("data/kernel", "runs");
  expect(await kernel.read("data/kernel")).toBe("runs");
  expect(xenstored.usage().find(({ domid }) => domid === 1)).toMatchObject({ watches: 0, transactions: 0 });
  transport().close();
});

test("a client learns that xenstored has left the ring", async () => {
  const { connect, xenstored } = domain();
  const store = connect();
  expect(await store.getDomainPath(1)).toBe("/local/domain/1");
  const waiting = store.read("data/none");
  xenstored.release(1);
  await expect(waiting).rejects.toMatchObject({ code: "IO", cause: { code: "PROTOCOL" } });
  await expect(store.read("data")).rejects.toMatchObject({ code: "IO" });
});

test("requests that come together are answered with one event, changes in a row with one", () => {
  const host = new RingHost();
  const guest = host.guest(1);
  guest.ask("WATCH", ["data", "t"]);
  const before = guest.events;
  for (let i = 0; i < 20; i++) guest.send("GET_DOMAIN_PATH", ["1"]);
  while (host.pass() > 0);
  guest.turn();
  expect(guest.events - before).toBe(1);
  for (let i = 0; i < 10; i++) host.dom0.write(`/local/domain/1/data/${i}`, "");
  host.pass();
  guest.turn();
  expect(guest.events - before).toBe(2);
  expect(guest.watchEvents()).toHaveLength(11);
});
