/** What one guest can use up: its own share, never another's (fact sheet 6.3). Dom0 is exempt. */
import { describe, expect, test } from "vitest";
import { guests } from "./support.js";

test("nodes: 1000, and a refusal leaves no node half made (XSA-414, XSA-415)", () => {
  const { dom0, guest1, guest2, xenstored } = guests();
  const made: string[] = [];
  for (let i = 0; i < 1100; i++) if (guest1.write(`data/d${i % 40}/k${i}`, "") === "OK") made.push(String(i));
  expect(xenstored.store.tree.owned(1)).toBe(1000);
  expect(made).toHaveLength(1000 - 1 - 40);
  const size = xenstored.store.tree.size;
  expect(guest1.write("data/a/b/c/d", "")).toBe("ENOSPC");
  expect(guest1.mkdir("data/x")).toBe("ENOSPC");
  expect(xenstored.store.tree.size).toBe(size);
  expect(xenstored.store.tree.inconsistencies()).toEqual([]);
  expect(guest1.write("data/d0/k0", "still writable")).toBe("OK");
  expect(guest2.write("data/mine", "")).toBe("OK");
  expect(dom0.write("/local/domain/1/data/by-dom0", "")).toBe("OK");
  guest1.rm("data/d1");
  expect(guest1.write("data/x", "")).toBe("OK");
});

test("nodes: also across transactions that fit one by one", () => {
  const { guest1, xenstored } = guests({ quotas: { nodes: 20 } });
  for (const dir of ["a", "b"]) guest1.mkdir(`data/${dir}`);
  const transactions = ["a", "b"].map((dir) => {
    const tx = guest1.begin();
    for (let i = 0; i < 12; i++) expect(guest1.write(`data/${dir}/${i}`, "", tx)).toBe("OK");
    return tx;
  });
  expect(transactions.map((tx) => guest1.commit(tx))).toEqual(["OK", "ENOSPC"]);
  expect(xenstored.store.tree.owned(1)).toBe(15);
  expect(xenstored.store.tree.inconsistencies()).toEqual([]);
});

test("a creation that fails inside a transaction dooms it", () => {
  const { guest1 } = guests({ quotas: { nodes: 5 } });
  const tx = guest1.begin();
  expect(guest1.write("data/a", "", tx)).toBe("OK");
  expect(guest1.write("data/b/c/d/e", "", tx)).toBe("ENOSPC");
  expect(guest1.commit(tx)).toBe("ENOMEM");
  expect(guest1.list("data")).toBe("");
});

describe("node size: 2048 bytes with header, permissions, value and names", () => {
  // 20 bytes of header, 8 for the one permission.
  test("value", () => {
    const { guest1, dom0 } = guests();
    expect(guest1.write("data/k", "v".repeat(2020))).toBe("OK");
    expect(guest1.write("data/k", "v".repeat(2021))).toBe("ENOSPC");
    expect(guest1.write("data/new", "v".repeat(2021))).toBe("ENOSPC");
    expect(guest1.read("data/new")).toBe("ENOENT");
    expect(guest1.chmod("data/k", "n1", "r2")).toBe("ENOSPC");
    expect(dom0.write("/big", "v".repeat(4000))).toBe("OK");
  });

  test("names of children", () => {
    const { guest1 } = guests();
    const name = (i: number) => String(i).padStart(100, "x");
    for (let i = 0; i < 20; i++) expect(guest1.mkdir(`data/${name(i)}`)).toBe("OK");
    expect(guest1.mkdir(`data/${name(20)}`)).toBe("ENOSPC");
    expect(guest1.mkdir(`data/${name(0)}/below`)).toBe("OK");
  });
});

test("watches: 128, shared by a domain's connections, given back", () => {
  const { guest1, guest2, dom0 } = guests();
  for (let i = 0; i < 128; i++) expect(guest1.watch("data", `t${i}`)).toBe("OK");
  expect(guest1.watch("data", "more")).toBe("ENOSPC");
  expect(guest2.watch("data", "t")).toBe("OK");
  guest1.ask("UNWATCH", ["data", "t7"]);
  expect(guest1.watch("data", "more")).toBe("OK");
  for (let i = 0; i < 200; i++) expect(dom0.watch("/", `t${i}`)).toBe("OK");
});

test("transactions: 10 open, given back at their end, however it comes", () => {
  const { guest1, dom0 } = guests();
  const open = Array.from({ length: 10 }, () => guest1.begin());
  expect(guest1.ask("TRANSACTION_START")).toBe("ENOSPC");
  guest1.abort(open[0]!);
  guest1.commit(open[1]!);
  guest1.read("data", open[2]!);
  dom0.write("/local/domain/1/data", "changed");
  expect(guest1.commit(open[2]!)).toBe("EAGAIN");
  for (let i = 0; i < 3; i++) expect(guest1.begin()).toBeGreaterThan(0);
  expect(guest1.ask("TRANSACTION_START")).toBe("ENOSPC");
});

test("nodes touched in one transaction: 1024, read, written or absent", () => {
  const { dom0, guest1, xenstored } = guests();
  const tx = guest1.begin();
  for (let i = 0; i < 1100; i++) guest1.read(`data/none-${i}`, tx);
  expect(guest1.received.filter(({ text }) => text === "ENOENT")).toHaveLength(1023); // and their parent
  expect(guest1.received.at(-1)!.text).toBe("ENOSPC");
  guest1.abort(tx);
  for (let i = 0; i < 1500; i++) dom0.write(`/local/domain/1/data/${i}`, "");
  const removal = guest1.begin();
  expect(guest1.rm("data", removal)).toBe("ENOSPC");
  expect(guest1.commit(removal)).toBe("OK");
  expect(dom0.list("/local/domain/1/data")).toBe("E2BIG");
  expect(xenstored.store.tree.inconsistencies()).toEqual([]);
  expect(guest1.rm("data")).toBe("OK"); // a request of its own is not limited
});

test("permissions: 5 in one list", () => {
  const { guest1, dom0 } = guests();
  const list = ["n1", "r2", "r3", "r4", "r5", "r6"];
  expect(guest1.chmod("data", ...list)).toBe("ENOSPC");
  expect(guest1.chmod("data", ...list.slice(0, 5))).toBe("OK");
  expect(dom0.chmod("/local/domain/1/data", ...list)).toBe("OK");
});

test("0 lifts a quota", () => {
  const { guest1 } = guests({ quotas: { transactions: 0 } });
  for (let i = 0; i < 50; i++) expect(guest1.begin()).toBeGreaterThan(0);
});
