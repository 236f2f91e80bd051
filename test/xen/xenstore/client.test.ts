/** The client, in process and in another thread, and against servers that misbehave. */
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, test } from "vitest";
import { peerView, XENSTORE_FRAME } from "#src/xen/platform/simulated/domain-pages.js";
import { Hypervisor } from "#src/xen/platform/simulated/hypervisor.js";
import { VcpuLoop } from "#src/xen/vcpu-loop.js";
import { type StoreTransaction, XenstoreClient } from "#src/xen/xenstore/client.js";
import { XenstoreRings } from "#src/xen/xenstore/ring-server.js";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { localTransport, type Transport } from "#src/xen/xenstore/transport.js";
import { encodeMessage, joinStrings, MESSAGE_TYPES, MessageParser } from "#src/xen/xenstore/wire.js";
import { clientOverRing } from "./ring-host.js";

const errno = (name: string, code: string) => expect.objectContaining({ code, details: { errno: name } });
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

function overRing(xenstored: Xenstored, domid: number): XenstoreClient {
  const { client, stop } = clientOverRing(xenstored, domid);
  cleanups.push(stop);
  return client;
}

const inProcess = (xenstored: Xenstored, domid: number) => new XenstoreClient(localTransport(xenstored, domid));

describe.each([
  ["in process", inProcess],
  ["over a shared ring", overRing],
])("%s", (_, connect) => {
  test("every operation", async () => {
    const store = connect(new Xenstored(), 0);
    await store.write("/a/b", "grüße");
    await store.write("/a/raw", Uint8Array.of(0, 255, 10));
    await store.mkdir("/a/d");
    expect(await store.read("/a/b")).toBe("grüße");
    expect(Array.from(await store.readBytes("/a/raw"))).toEqual([0, 255, 10]);
    expect(await store.directory("/a")).toEqual(["b", "raw", "d"]);
    expect(await store.readOrNull("/a/none")).toBeNull();
    expect(await store.readMany("/a", ["b", "none"])).toEqual({ b: "grüße", none: null });
    await store.setPerms("/a", ["n0", "r3"]);
    expect(await store.getPerms("/a")).toEqual(["n0", "r3"]);
    await store.rm("/a");
    await expect(store.read("/a/b")).rejects.toEqual(errno("ENOENT", "NOT_FOUND"));
    expect(await store.getDomainPath(7)).toBe("/local/domain/7");
    expect(await store.isDomainIntroduced(7)).toBe(false);
    await store.introduce(7, 1, 1);
    expect(await store.isDomainIntroduced(7)).toBe(true);
    await store.setTarget(7, 7);
    await store.resume(7);
    await store.release(7);
    expect(await store.isDomainIntroduced(7)).toBe(false);
    store.close();
  });

  test("errors carry the store's name for them, and say what was tried", async () => {
    const xenstored = new Xenstored();
    xenstored.introduce(1);
    const [dom0, guest] = [connect(xenstored, 0), connect(xenstored, 1)];
    await expect(guest.read("/x")).rejects.toThrow(/^Cannot read xenstore node \/x: permission denied \(EACCES\)$/);
    await expect(guest.introduce(2, 1, 1)).rejects.toEqual(errno("EACCES", "DENIED"));
    await expect(dom0.read("/x//y")).rejects.toEqual(errno("EINVAL", "PROTOCOL"));
    await expect(dom0.write("/x", "v".repeat(5000))).rejects.toEqual(errno("E2BIG", "NO_SPACE"));
    await expect(dom0.read("/x\0y")).rejects.toEqual(errno("EINVAL", "PROTOCOL"));
    await dom0.mkdir("/local/domain/1/data");
    await dom0.setPerms("/local/domain/1/data", ["n1"]);
    await expect(guest.write("data/k", "v".repeat(2048))).rejects.toEqual(errno("ENOSPC", "NO_SPACE"));
    for (const store of [dom0, guest]) store.close();
  });

  test("a listing of any length, also while it changes", async () => {
    const store = connect(new Xenstored(), 0);
    const names = Array.from({ length: 2000 }, (_, i) => `child-${i}`);
    await Promise.all(names.map((name) => store.mkdir(`/many/${name}`)));
    expect(await store.directory("/many")).toEqual(names);
    const listing = store.directory("/many");
    await store.mkdir("/many/late");
    expect((await listing).slice(0, 2000)).toEqual(names);
    store.close();
  });

  test("watches: at once, on change, until taken back", async () => {
    const store = connect(new Xenstored(), 0);
    const heard: string[] = [];
    const unwatch = await store.watch("/w", "t", (path) => heard.push(`t ${path}`));
    const other = await store.watch("/w/a", "t", (path) => heard.push(`a ${path}`));
    const twin = await store.watch("/w", "t", () => {}); // a watch of its own, whatever its name
    await twin();
    await store.write("/w/a", "1");
    await store.write("/wx", "1");
    await unwatch();
    await unwatch();
    await store.write("/w/a", "2");
    await other();
    await store.write("/w/a", "3");
    expect(heard.sort()).toEqual(["a /w/a", "a /w/a", "a /w/a", "t /w", "t /w/a"]);
    await store.resetWatches();
    store.close();
  });

  test("a transaction runs again until nobody interferes; a failed body leaves nothing", async () => {
    const xenstored = new Xenstored();
    const [one, two] = [connect(xenstored, 0), connect(xenstored, 0)];
    await one.write("/n", "0");
    const add = (store: XenstoreClient) =>
      store.transaction(async (tx) => store.write("/n", String(Number(await store.read("/n", tx)) + 1), tx));
    await Promise.all(Array.from({ length: 10 }, (_, i) => add(i % 2 ? one : two)));
    expect(await one.read("/n")).toBe("10");
    const broken = one.transaction(async (tx) => {
      await one.write("/n", "lost", tx);
      throw new Error("no");
    });
    await expect(broken).rejects.toThrow("no");
    expect(await two.read("/n")).toBe("10");
    expect(await one.transaction(async (tx) => one.readOrNull("/n", tx))).toBe("10");
    for (const store of [one, two]) store.close();
  });

  test("a transaction that always loses ends", async () => {
    const xenstored = new Xenstored();
    const [one, two] = [connect(xenstored, 0), connect(xenstored, 0)];
    let runs = 0;
    const body = async (tx: StoreTransaction) => {
      await one.readOrNull("/n", tx);
      await two.write("/n", String(++runs));
    };
    await expect(one.transaction(body, 5)).rejects.toEqual(errno("EAGAIN", "DENIED"));
    expect(runs).toBe(5);
    for (const store of [one, two]) store.close();
  });

  test("when the store lets go, what waits is rejected", async () => {
    const xenstored = new Xenstored();
    xenstored.introduce(1);
    const guest = connect(xenstored, 1);
    expect(await guest.getDomainPath(1)).toBe("/local/domain/1");
    xenstored.domainDied(1);
    await expect(guest.read("data")).rejects.toMatchObject({ code: "IO" });
    await expect(guest.read("data")).rejects.toMatchObject({ code: "IO" });
  });

  test("closing rejects what waits, and the store forgets the client", async () => {
    const xenstored = new Xenstored();
    const [store, other] = [connect(xenstored, 0), connect(xenstored, 0)];
    const heard: string[] = [];
    await store.watch("/w", "t", (path) => heard.push(path));
    const waiting = store.transaction((tx) => store.read("/none", tx));
    store.close();
    store.close();
    await expect(waiting).rejects.toMatchObject({ code: "IO" });
    await other.write("/w/x", "1");
    expect(heard.filter((path) => path === "/w/x")).toEqual([]);
    other.close();
  });
});

test("a callback in the store's thread never runs inside another client's request", async () => {
  const xenstored = new Xenstored();
  const [one, two] = [inProcess(xenstored, 0), inProcess(xenstored, 0)];
  let inside = false;
  let seen = 0;
  await one.watch("/w", "t", () => {
    expect(inside).toBe(false);
    seen++;
  });
  for (let i = 0; i < 10; i++) {
    inside = true;
    const written = two.write(`/w/${i}`, "");
    inside = false;
    await written;
  }
  expect(seen).toBe(11);
});

test("a domain in another thread is a client like any other, and its end is the host's to tell", async () => {
  const hypervisor = new Hypervisor(1 << 16);
  const loop = new VcpuLoop(hypervisor.platform.vcpu, { blocking: false, spins: 0 });
  const rings = new XenstoreRings({ platform: hypervisor.platform, loop });
  const xenstored: Xenstored = new Xenstored({
    onIntroduce: (domid, _frame, at) => rings.connect(xenstored, domid, at),
    onRelease: (domid) => rings.disconnect(domid),
  });
  hypervisor.onChange(({ domid, state }) => state === "dying" && xenstored.domainDied(domid));
  void loop.run();
  cleanups.push(() => loop.stop());
  const dom0 = inProcess(xenstored, 0);
  const { pages, xenstorePort: port } = hypervisor.create(1 << 16);
  await dom0.introduce(1, XENSTORE_FRAME, port);
  await dom0.mkdir("/local/domain/1/data");
  await dom0.setPerms("/local/domain/1/data", ["n1"]);
  const worker = new Worker(GUEST, {
    eval: true,
    workerData: {
      own: pages,
      dom0: peerView(hypervisor.dom0),
      port,
      dist: new URL("../../../dist/xen/", import.meta.url).href,
    },
  });
  const answered = new Promise<void>((resolve) => {
    void dom0.watch("/local/domain/1/data/answer", "t", async (path) => {
      if ((await dom0.readOrNull(path)) === "HELLO") resolve();
    });
  });
  await dom0.write("/local/domain/1/data/ask", "hello");
  await answered;
  await worker.terminate();
  expect(xenstored.usage().find(({ domid }) => domid === 1)).toMatchObject({ watches: 1 });
  hypervisor.destroy(1);
  while (hypervisor.domain(1)) await new Promise((resolve) => setImmediate(resolve)); // its page was still mapped
  expect(xenstored.isIntroduced(1)).toBe(false);
  expect(hypervisor.platform.foreign.mapped).toBe(0);
});

const GUEST = `
  const { parentPort, workerData: { own, dom0, port, dist } } = require("node:worker_threads");
  parentPort.on("message", () => {}); // a sleeping vcpu keeps no thread alive
  (async () => {
    const { simulatedPlatform } = await import(dist + "platform/simulated/platform.js");
    const { ownXenstorePage } = await import(dist + "platform/simulated/xenstore-page.js");
    const { VcpuLoop } = await import(dist + "vcpu-loop.js");
    const { XenstoreClient } = await import(dist + "xenstore/client.js");
    const { ringTransport } = await import(dist + "xenstore/ring-transport.js");
    const platform = simulatedPlatform(own, 0);
    platform.introduce(dom0);
    void new VcpuLoop(platform.vcpu, { blocking: false }).run();
    const store = new XenstoreClient(ringTransport({ words: ownXenstorePage(own), events: platform.events, port }));
    await store.watch("data/ask", "t", async () => {
      const ask = await store.readOrNull("data/ask");
      if (ask !== null) await store.write("data/answer", ask.toUpperCase());
    });
  })();`;

describe("servers that break the protocol", () => {
  /** A transport whose other end answers each request with what `answer` makes of it. */
  function scripted(answer: (reqId: number, type: number) => Uint8Array | undefined): Transport & { closed: boolean } {
    let receive: (bytes: Uint8Array) => void = () => {};
    const parser = new MessageParser();
    return {
      closed: false,
      send(bytes) {
        parser.push(bytes);
        const { reqId, type } = parser.next()!;
        const reply = answer(reqId, type);
        if (reply) queueMicrotask(() => receive(reply));
      },
      onReceive(callback) {
        receive = callback;
      },
      onClose() {},
      close() {
        this.closed = true;
      },
    };
  }
  const message = (type: number, reqId: number, ...strings: string[]) =>
    encodeMessage({ type, reqId, txId: 0, payload: joinStrings(strings) });

  test.each([
    ["an unknown request number", (reqId: number) => message(MESSAGE_TYPES.READ, reqId + 1, "x")],
    ["an announced length above 4096", () => Uint8Array.from({ length: 16 }, () => 0xff)],
  ])("%s ends the connection", async (_, answer) => {
    const transport = scripted(answer);
    const store = new XenstoreClient(transport);
    await expect(store.read("/a")).rejects.toMatchObject({ code: "IO", cause: { code: "PROTOCOL" } });
    expect(transport.closed).toBe(true);
  });

  test("a reply of another type, a strange error, a strange transaction number", async () => {
    const { READ, MKDIR, ERROR, TRANSACTION_START } = MESSAGE_TYPES;
    const wrongType = new XenstoreClient(scripted((reqId) => message(MKDIR, reqId, "OK")));
    await expect(wrongType.read("/a")).rejects.toMatchObject({ code: "PROTOCOL" });
    const strange = new XenstoreClient(scripted((reqId) => message(ERROR, reqId, "EQUOTA")));
    await expect(strange.read("/a")).rejects.toEqual(errno("EINVAL", "PROTOCOL"));
    const number = new XenstoreClient(
      scripted((reqId, type) => message(type, reqId, type === TRANSACTION_START ? "-1" : "OK")),
    );
    await expect(number.transaction(async () => {})).rejects.toMatchObject({ code: "PROTOCOL" });
    expect(READ).toBe(2);
  });

  test("parts of a listing that never end", async () => {
    const { DIRECTORY, ERROR, DIRECTORY_PART } = MESSAGE_TYPES;
    const endless = scripted((reqId, type) =>
      type === DIRECTORY ? message(ERROR, reqId, "E2BIG") : message(DIRECTORY_PART, reqId, "7"),
    );
    await expect(new XenstoreClient(endless).directory("/a")).rejects.toMatchObject({ code: "PROTOCOL" });
    let generation = 0;
    const restless = scripted((reqId, type) =>
      type === DIRECTORY ? message(ERROR, reqId, "E2BIG") : message(DIRECTORY_PART, reqId, String(generation++), "a"),
    );
    await expect(new XenstoreClient(restless).directory("/a")).rejects.toEqual(errno("EAGAIN", "DENIED"));
  });
});
