/** Transactions: isolated until they commit, all or nothing, refused when what they saw has changed (fact sheet 6.2). */
import { describe, expect, test } from "vitest";
import { guests } from "./support.js";

describe("isolation", () => {
  test("changes show inside, and outside only after the commit", () => {
    const { dom0, guest1 } = guests();
    dom0.write("/a", "old");
    const tx = dom0.begin();
    expect(dom0.write("/a", "new", tx)).toBe("OK");
    dom0.write("/b/c", "1", tx);
    expect(dom0.read("/a", tx)).toBe("new");
    expect(dom0.list("/b", tx)).toBe("c");
    expect(dom0.read("/a")).toBe("old");
    expect(dom0.read("/b")).toBe("ENOENT");
    expect(dom0.commit(tx)).toBe("OK");
    expect(dom0.read("/a")).toBe("new");
    expect(dom0.read("/b/c")).toBe("1");
    expect(guest1.read("data", tx)).toBe("ENOENT"); // another connection's number
  });

  test("an aborted transaction leaves nothing", () => {
    const { dom0, xenstored } = guests();
    dom0.write("/a/b", "1");
    const before = xenstored.store.tree.size;
    const tx = dom0.begin();
    dom0.rm("/a", tx);
    dom0.write("/c/d", "2", tx);
    expect(dom0.read("/a/b", tx)).toBe("ENOENT");
    expect(dom0.abort(tx)).toBe("OK");
    expect(dom0.read("/a/b")).toBe("1");
    expect(xenstored.store.tree.size).toBe(before);
    expect(xenstored.store.tree.inconsistencies()).toEqual([]);
  });

  test("reads are repeatable: what was seen once stays so inside", () => {
    const { dom0 } = guests();
    dom0.write("/a/k", "1");
    const tx = dom0.begin();
    expect([dom0.read("/a/k", tx), dom0.list("/a", tx), dom0.read("/a/x", tx)]).toEqual(["1", "k", "ENOENT"]);
    dom0.write("/a/k", "2");
    dom0.write("/a/x", "3");
    dom0.rm("/a/k");
    expect([dom0.read("/a/k", tx), dom0.list("/a", tx), dom0.read("/a/x", tx)]).toEqual(["1", "k", "ENOENT"]);
    expect(dom0.commit(tx)).toBe("EAGAIN");
  });

  test("create and delete of one node inside leaves no trace and no account (XSA-421)", () => {
    const { guest1, xenstored } = guests();
    const tx = guest1.begin();
    guest1.write("data/a/b", "1", tx);
    guest1.rm("data/a", tx);
    guest1.write("data/c", "1", tx);
    expect(guest1.commit(tx)).toBe("OK");
    expect(guest1.list("data")).toBe("c");
    expect(xenstored.store.tree.owned(1)).toBe(2);
    expect(xenstored.store.tree.inconsistencies()).toEqual([]);
  });

  test("nodes that others take away or add below what was seen do no harm, and the commit fails", () => {
    const { dom0, xenstored } = guests();
    dom0.write("/a/b", "");
    const [tx, tx2] = [dom0.begin(), dom0.begin()];
    expect([dom0.list("/a", tx), dom0.read("/n", tx2)]).toEqual(["b", "ENOENT"]);
    dom0.rm("/a/b");
    dom0.write("/n/c", "");
    expect([dom0.rm("/a", tx), dom0.rm("/n/c", tx2), dom0.write("/n/c", "", tx2)]).toEqual(["OK", "OK", "OK"]);
    expect([dom0.commit(tx), dom0.commit(tx2)]).toEqual(["EAGAIN", "EAGAIN"]);
    expect(dom0.list("/n")).toBe("c");
    expect(xenstored.store.tree.inconsistencies()).toEqual([]);
  });

  test("a tree replaced inside is replaced at once", () => {
    const { dom0, xenstored } = guests();
    for (const key of ["a", "b/c"]) dom0.write(`/t/${key}`, "old");
    const tx = dom0.begin();
    dom0.rm("/t", tx);
    dom0.write("/t/b/d", "new", tx);
    expect(dom0.commit(tx)).toBe("OK");
    expect([dom0.list("/t"), dom0.list("/t/b"), dom0.read("/t/b/c")]).toEqual(["b", "d", "ENOENT"]);
    expect(xenstored.store.tree.inconsistencies()).toEqual([]);
  });
});

describe("conflicts", () => {
  /** What a commit says when `inside` ran in a transaction and `outside` beside it, before and after its work. */
  function race(inside: [string, ...string[]], outside: [string, ...string[]]): string[] {
    return [true, false].map((outsideFirst) => {
      const { dom0 } = guests();
      dom0.write("/a/k", "1");
      dom0.write("/b", "1");
      const run = ([verb, path, value]: string[], tx: number) =>
        verb === "write" ? dom0.write(path!, value!, tx) : dom0[verb as "read"](path!, tx);
      const tx = dom0.begin();
      if (outsideFirst) run(outside, 0);
      run(inside, tx);
      if (!outsideFirst) run(outside, 0);
      return dom0.commit(tx);
    });
  }

  test.each<[string, [string, ...string[]], [string, ...string[]]]>([
    ["a node read was written", ["read", "/a/k"], ["write", "/a/k", "2"]],
    ["a node read was written with the same value", ["read", "/a/k"], ["write", "/a/k", "1"]],
    ["a node read was removed", ["read", "/a/k"], ["rm", "/a"]],
    ["a node found absent was made", ["read", "/a/x"], ["write", "/a/x", ""]],
    ["a listed node got a child", ["list", "/a"], ["mkdir", "/a/x"]],
    ["a node written was written", ["write", "/b", "2"], ["write", "/b", "3"]],
    ["the directory of a new node got another child", ["write", "/a/x", ""], ["write", "/a/y", ""]],
    ["a removed tree got a node", ["rm", "/a"], ["write", "/a/x/y", ""]],
  ])("%s", (_, inside, outside) => expect(race(inside, outside)).toEqual(["OK", "EAGAIN"]));

  test.each<[string, [string, ...string[]], [string, ...string[]]]>([
    ["another node", ["read", "/a/k"], ["write", "/b", "2"]],
    ["a node below a node read", ["read", "/a"], ["write", "/a/k", "2"]],
    ["only reading", ["write", "/b", "2"], ["read", "/b"]],
    ["mkdir of what exists", ["read", "/b"], ["mkdir", "/b"]],
  ])("none by %s", (_, inside, outside) => expect(race(inside, outside)).toEqual(["OK", "OK"]));

  test("removed and made again is not the same node", () => {
    const { dom0 } = guests();
    dom0.write("/a", "1");
    const tx = dom0.begin();
    dom0.read("/a", tx);
    dom0.rm("/a");
    dom0.write("/a", "1");
    expect(dom0.commit(tx)).toBe("EAGAIN");
  });

  test("of two transactions with the same nodes the first to commit wins, and the loser leaves nothing", () => {
    const { dom0, xenstored } = guests();
    dom0.write("/n", "0");
    const [tx1, tx2] = [dom0.begin(), dom0.begin()];
    for (const tx of [tx1, tx2]) dom0.write("/n", String(Number(dom0.read("/n", tx)) + tx), tx);
    expect(dom0.commit(tx2)).toBe("OK");
    expect(dom0.commit(tx1)).toBe("EAGAIN");
    expect(dom0.read("/n")).toBe(String(tx2));
    expect(dom0.commit(tx1)).toBe("ENOENT"); // over, also by failing
    expect(xenstored.store.tree.inconsistencies()).toEqual([]);
  });
});

describe("the protocol", () => {
  test("numbers that name no transaction, verdicts that are none, one inside another", () => {
    const { dom0 } = guests();
    const tx = dom0.begin();
    expect(dom0.ask("TRANSACTION_START", [""], tx)).toBe("EBUSY");
    expect(dom0.ask("TRANSACTION_END", ["X"], tx)).toBe("EINVAL");
    expect(dom0.ask("TRANSACTION_END", ["T"], 0)).toBe("ENOENT");
    expect(dom0.ask("TRANSACTION_END", ["T"], 999)).toBe("ENOENT");
    expect(dom0.read("/", 999)).toBe("ENOENT");
    expect(dom0.commit(tx)).toBe("OK");
  });

  test("a watch ignores the transaction's number", () => {
    const { dom0 } = guests();
    expect(dom0.ask("WATCH", ["/a", "t"], 999)).toBe("OK");
    expect(dom0.ask("UNWATCH", ["/a", "t"], 999)).toBe("OK");
  });

  test("replies carry the numbers of their request", () => {
    const { dom0 } = guests();
    const tx = dom0.begin();
    const reqId = dom0.send("READ", ["/none"], tx);
    expect(dom0.received.at(-1)).toMatchObject({ name: "ERROR", text: "ENOENT", reqId, txId: tx });
  });

  test("when a domain dies, open transactions start over: they may have named it", () => {
    const { dom0, guest1, guest2, xenstored } = guests();
    const tx = dom0.begin();
    dom0.write("/for-2", "", tx);
    dom0.ask("SET_PERMS", ["/for-2", "n2"], tx);
    const [other] = [guest1.begin()];
    guest1.write("data/k", "", other);
    xenstored.release(2);
    expect(guest2.ended).toBe(true);
    expect(dom0.commit(tx)).toBe("EAGAIN");
    expect(guest1.commit(other)).toBe("EAGAIN");
    expect(dom0.read("/for-2")).toBe("ENOENT");
    expect(xenstored.store.tree.owned(2)).toBe(0);
  });
});
