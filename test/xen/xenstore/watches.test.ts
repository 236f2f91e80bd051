/** Watches: who hears of what, by which path, in which order (fact sheet 6.2). */
import { describe, expect, test } from "vitest";
import { guests, RawClient } from "./support.js";

test("the first event comes right after the reply, whatever there is to see", () => {
  const { guest1 } = guests();
  guest1.send("WATCH", ["/secret/none", "t"]);
  expect(guest1.received.map(({ name, text, reqId }) => [name, text, reqId])).toEqual([
    ["WATCH", "OK", 1],
    ["WATCH_EVENT", "/secret/none|t", 0],
  ]);
});

test("the node and everything below it: made, written, removed, permissions changed", () => {
  const { dom0 } = guests();
  dom0.watch("/w", "t");
  dom0.events();
  const heard = (run: () => unknown) => {
    run();
    return dom0.events();
  };
  expect(heard(() => dom0.write("/w", "1"))).toEqual(["/w|t"]);
  expect(heard(() => dom0.write("/w/a/b", "1"))).toEqual(["/w/a/b|t"]);
  expect(heard(() => dom0.mkdir("/w/d"))).toEqual(["/w/d|t"]);
  expect(heard(() => dom0.mkdir("/w/d"))).toEqual([]);
  expect(heard(() => dom0.chmod("/w/d", "r0"))).toEqual(["/w/d|t"]);
  expect(heard(() => dom0.rm("/w/a"))).toEqual(["/w/a|t"]);
  expect(heard(() => dom0.rm("/w/none"))).toEqual([]);
  expect(heard(() => dom0.read("/w"))).toEqual([]);
  expect(heard(() => dom0.write("/wx", "1"))).toEqual([]);
  expect(heard(() => dom0.write("/w-", "1"))).toEqual([]);
});

test("a watch on / hears of every node, and of no domain", () => {
  const { dom0, xenstored } = guests();
  dom0.watch("/", "t");
  dom0.events();
  dom0.write("/x/y", "");
  xenstored.introduce(7);
  expect(dom0.events()).toEqual(["/x/y|t"]);
});

test("a removed tree: watches above hear of its top, watches inside hear of their own node", () => {
  const { dom0 } = guests();
  dom0.write("/t/a/b", "");
  dom0.write("/t/c", "");
  for (const path of ["/t", "/t/a", "/t/a/b", "/t/a/none"]) dom0.watch(path, `on ${path}`);
  dom0.events();
  dom0.rm("/t");
  expect(dom0.events().sort()).toEqual(["/t/a/b|on /t/a/b", "/t/a|on /t/a", "/t|on /t"]);
});

test("a watch set by a relative path speaks in relative paths", () => {
  const { dom0, guest1 } = guests();
  guest1.watch("data", "t");
  expect(guest1.events()).toEqual(["data|t"]);
  dom0.write("/local/domain/1/data/k", "");
  expect(guest1.events()).toEqual(["data/k|t"]);
  expect(guest1.ask("UNWATCH", ["/local/domain/1/data", "t"])).toBe("OK");
});

test("several watches hear in the order in which they were set", () => {
  const { dom0 } = guests();
  for (const [path, token] of [
    ["/a/b", "1"],
    ["/a", "2"],
    ["/", "3"],
    ["/a/b", "4"],
  ])
    dom0.watch(path!, token!);
  dom0.events();
  dom0.write("/a/b", "");
  expect(dom0.events()).toEqual(["/a/b|1", "/a/b|2", "/a/b|3", "/a/b|4"]);
});

test("path and token together name a watch", () => {
  const { dom0, guest1 } = guests();
  expect(dom0.watch("/a", "t")).toBe("OK");
  expect(dom0.watch("/a", "t")).toBe("EEXIST");
  expect(dom0.watch("/a", "u")).toBe("OK");
  expect(guest1.watch("/a", "t")).toBe("OK");
  expect(dom0.ask("UNWATCH", ["/a", "v"])).toBe("ENOENT");
  expect(dom0.ask("UNWATCH", ["/a", "t"])).toBe("OK");
  expect(dom0.ask("UNWATCH", ["/a", "t"])).toBe("ENOENT");
  dom0.events();
  dom0.write("/a", "");
  expect(dom0.events()).toEqual(["/a|u"]);
});

test.each([[["/a"]], [["/a", "t", "x"]], [["/a", "t", "1", "2"]], [["/a//b", "t"]], [[""]]])(
  "WATCH %j is malformed",
  (strings) => {
    expect(guests().dom0.ask("WATCH", strings)).toBe("EINVAL");
  },
);

describe("permissions (XSA-115)", () => {
  test("an event needs read permission on the node or its parent", () => {
    const { dom0, guest1 } = guests();
    guest1.watch("/", "t");
    guest1.watch("/s/k", "u");
    guest1.events();
    dom0.write("/s/k", "1");
    expect(guest1.events()).toEqual([]);
    dom0.chmod("/s/k", "n0", "r1");
    expect(guest1.events()).toEqual(["/s/k|t", "/s/k|u"]);
    dom0.write("/s/k", "2");
    expect(guest1.events()).toHaveLength(2);
    dom0.chmod("/s/k", "n0"); // who loses the permission hears of it
    expect(guest1.events()).toHaveLength(2);
    dom0.rm("/s/k");
    expect(guest1.events()).toEqual([]);
    dom0.chmod("/s", "r0");
    expect(guest1.events()).toEqual(["/s|t"]);
    dom0.write("/s/hidden", "");
    dom0.chmod("/s/hidden", "n0");
    guest1.events();
    dom0.rm("/s/hidden"); // its parent can be listed, so its going is no secret
    expect(guest1.events()).toEqual(["/s/hidden|t"]);
  });
});

describe("transactions", () => {
  test("events come at the commit, one for each node, none when it fails or is aborted", () => {
    const { dom0 } = guests();
    dom0.write("/w/old", "");
    dom0.watch("/w", "t");
    dom0.events();
    const tx = dom0.begin();
    dom0.write("/w/a", "1", tx);
    dom0.write("/w/a", "2", tx);
    dom0.rm("/w/old", tx);
    dom0.write("/w/b/c", "1", tx);
    expect(dom0.events()).toEqual([]);
    dom0.commit(tx);
    expect(dom0.events()).toEqual(["/w/a|t", "/w/old|t", "/w/b/c|t"]);
    for (const end of ["abort", "commit"] as const) {
      const lost = dom0.begin();
      dom0.write("/w/a", "3", lost);
      dom0.write("/w/a", "4");
      dom0.events();
      dom0[end](lost);
      expect(dom0.events()).toEqual([]);
    }
  });

  test("a node removed with its parent and then made again is heard of above", () => {
    const { dom0 } = guests();
    dom0.write("/w/d/k", "");
    dom0.watch("/w", "t");
    dom0.events();
    const tx = dom0.begin();
    dom0.rm("/w/d", tx);
    dom0.write("/w/d/k", "", tx);
    dom0.commit(tx);
    expect(dom0.events().sort()).toEqual(["/w/d/k|t", "/w/d|t"]);
  });

  test("who could read the node before or after may know", () => {
    const { dom0, guest1 } = guests();
    dom0.write("/s/k", "1");
    dom0.chmod("/s/k", "n0", "r1");
    guest1.watch("/s/k", "t");
    guest1.events();
    const tx = dom0.begin();
    dom0.ask("SET_PERMS", ["/s/k", "n0"], tx);
    dom0.write("/s/k", "2", tx);
    dom0.commit(tx);
    expect(guest1.events()).toEqual(["/s/k|t"]);
    dom0.write("/s/k", "3");
    expect(guest1.events()).toEqual([]);
  });
});

test("a watch with a depth hears of so many levels below it", () => {
  const { dom0 } = guests();
  for (const depth of ["0", "1", "2"]) expect(dom0.ask("WATCH", ["/w", `depth ${depth}`, depth])).toBe("OK");
  dom0.events();
  for (const path of ["/w", "/w/a", "/w/a/b", "/w/a/b/c"]) dom0.write(path, "");
  expect(dom0.events()).toEqual([
    ...["0", "1", "2"].map((depth) => `/w|depth ${depth}`),
    ...["1", "2"].map((depth) => `/w/a|depth ${depth}`),
    "/w/a/b|depth 2",
  ]);
  dom0.rm("/w/a"); // each node's own watches, and those above within reach
  expect(dom0.events()).toEqual(["/w/a|depth 1", "/w/a|depth 2"]);
});

describe("clients that do not read", () => {
  test("an event that waits already is not queued again; special ones are", () => {
    const { dom0, xenstored } = guests();
    const slow = new RawClient(xenstored, 0);
    slow.watch("/w", "t");
    slow.watch("@introduceDomain", "d");
    slow.events();
    slow.reads = false;
    for (let i = 0; i < 1000; i++) dom0.write(`/w/${i % 3}`, String(i));
    for (const domid of [11, 12]) xenstored.introduce(domid);
    expect(slow.events()).toEqual(["/w/0|t"]); // the one that filled the pipe
    slow.reads = true;
    slow.connection.resume();
    expect(slow.events()).toEqual(["/w/1|t", "/w/2|t", "/w/0|t", "@introduceDomain|d", "@introduceDomain|d"]);
  });

  test("no request of theirs is looked at until they read, then all are, in order", () => {
    const { dom0, xenstored } = guests();
    const slow = new RawClient(xenstored, 0);
    slow.reads = false;
    for (const key of ["a", "b", "c"]) slow.send("WRITE", [`/w/${key}`]);
    expect(slow.received).toHaveLength(1);
    expect(dom0.list("/w")).toBe("a");
    slow.reads = true;
    slow.connection.resume();
    expect(slow.received.map(({ reqId }) => reqId)).toEqual([1, 2, 3]);
    expect(dom0.list("/w")).toBe("a|b|c");
  });

  test("a guest may be twenty replies behind, then it waits", () => {
    const { dom0, guest1 } = guests();
    guest1.reads = false;
    const keys = Array.from({ length: 30 }, (_, i) => String(i));
    for (const key of keys) guest1.send("WRITE", [`data/${key}`]);
    expect(guest1.received).toHaveLength(1);
    expect(dom0.list("/local/domain/1/data").split("|")).toEqual(keys.slice(0, 20));
    guest1.reads = true;
    guest1.connection.resume();
    expect(guest1.received.map(({ reqId }) => reqId)).toEqual(keys.map((key) => Number(key) + 1));
    expect(dom0.list("/local/domain/1/data").split("|")).toEqual(keys);
  });

  test("a guest loses events above its quota, keeps the rest, and disturbs nobody (XSA-326)", () => {
    const { dom0, guest1, guest2 } = guests({ quotas: { pendingEvents: 20 } });
    dom0.chmod("/local/domain/1/data", "r1");
    for (const guest of [guest1, guest2]) {
      guest.watch("/local/domain/1/data", "t");
      guest.events();
    }
    guest1.reads = false;
    for (let i = 0; i < 100; i++) dom0.write(`/local/domain/1/data/k${i}`, "");
    expect(guest2.events()).toHaveLength(100);
    expect(guest1.connection.lostEvents).toBe(79);
    guest1.reads = true;
    guest1.connection.resume();
    expect(guest1.events()).toHaveLength(21);
    expect(guest1.read("data/k99")).toBe("");
  });

  test("a Dom0 client that never reads is cut off in the end", () => {
    const { dom0, xenstored } = guests();
    const slow = new RawClient(xenstored, 0);
    slow.watch("/w", "t");
    slow.reads = false;
    for (let i = 0; i < 17_000; i++) dom0.mkdir(`/w/${i}`);
    expect(slow.ended).toBe(true);
    expect(slow.reason).toMatchObject({ code: "PROTOCOL" });
    expect(dom0.ended).toBe(false);
  });
});

test("an event longer than a message is not sent (XSA-324)", () => {
  const { dom0 } = guests();
  const token = "t".repeat(4000);
  expect(dom0.watch("/w", token)).toBe("OK");
  expect(dom0.events()).toHaveLength(1);
  dom0.write(`/w/${"a".repeat(200)}`, "");
  expect(dom0.events()).toEqual([]);
  expect(dom0.ended).toBe(false);
});
