/** Domains in the store: introduced, announced, forgotten with everything they had; and what only Dom0 may ask. */
import { describe, expect, test } from "vitest";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { guests, RawClient } from "./support.js";

test("only an introduced domain can connect", () => {
  const xenstored = new Xenstored();
  expect(() => new RawClient(xenstored, 3)).toThrow(expect.objectContaining({ code: "DENIED" }));
  xenstored.introduce(3);
  expect(new RawClient(xenstored, 3).ask("GET_DOMAIN_PATH", ["3"])).toBe("/local/domain/3");
});

test("INTRODUCE and RELEASE over the wire reach the host, and are announced", () => {
  const calls: unknown[] = [];
  const xenstored = new Xenstored({
    domainExists: (domid) => domid < 10,
    onIntroduce: (...values) => calls.push(values),
    onRelease: (domid) => calls.push(domid),
  });
  const dom0 = new RawClient(xenstored, 0);
  for (const name of ["@introduceDomain", "@releaseDomain"]) dom0.watch(name, "t");
  dom0.events();
  expect(dom0.ask("IS_DOMAIN_INTRODUCED", ["4"])).toBe("F");
  expect(dom0.ask("INTRODUCE", ["4", "1044", "2"])).toBe("OK");
  expect(dom0.ask("IS_DOMAIN_INTRODUCED", ["4"])).toBe("T");
  expect(dom0.events()).toEqual(["@introduceDomain|t"]);
  expect(dom0.ask("INTRODUCE", ["4", "1044", "3"])).toBe("OK");
  expect(dom0.events()).toEqual([]);
  expect(dom0.ask("RELEASE", ["4"])).toBe("OK");
  expect(dom0.events()).toEqual(["@releaseDomain|t"]);
  expect(dom0.ask("RELEASE", ["4"])).toBe("ENOENT");
  expect(calls).toEqual([[4, 1044, 2], [4, 1044, 3], 4]);
  for (const strings of [
    ["4"],
    ["4", "1"],
    ["4", "1", "0"],
    ["4", "1", "-1"],
    ["x", "1", "1"],
    ["0", "1", "1"],
    ["11", "1", "1"],
  ])
    expect(dom0.ask("INTRODUCE", strings), strings.join()).toBe("EINVAL");
  expect(dom0.ask("RELEASE", ["0"])).toBe("EINVAL");
  expect(dom0.ask("RESUME", ["0"])).toBe("EINVAL");
});

test("a shutdown is announced once, again after RESUME, and the end in any case", () => {
  const { dom0, xenstored } = guests();
  dom0.watch("@releaseDomain", "t");
  dom0.events();
  const heard = (run: () => unknown) => {
    run();
    return dom0.events().length;
  };
  expect(heard(() => xenstored.domainShutdown(1))).toBe(1);
  expect(heard(() => xenstored.domainShutdown(1))).toBe(0);
  expect(heard(() => dom0.ask("RESUME", ["1"]))).toBe(0);
  expect(heard(() => xenstored.domainShutdown(1))).toBe(1);
  expect(heard(() => xenstored.domainDied(1))).toBe(1);
  expect(heard(() => xenstored.domainDied(1))).toBe(0);
});

test("guests hear of domains only where Dom0 lets them", () => {
  const { dom0, guest1, xenstored } = guests();
  guest1.watch("@introduceDomain", "t");
  guest1.events();
  xenstored.introduce(5);
  expect(guest1.events()).toEqual([]);
  dom0.chmod("@introduceDomain", "n0", "r1");
  guest1.events();
  xenstored.introduce(6);
  expect(guest1.events()).toEqual(["@introduceDomain|t"]);
});

describe("death", () => {
  test("connections end, watches and transactions go, owned nodes go wherever they are (XSA-419)", () => {
    const { dom0, guest1, guest2, xenstored } = guests();
    dom0.chmod("/local/domain/2/data", "b2");
    guest1.write("/local/domain/2/data/left/behind", "");
    dom0.write("/local/domain/2/data/left/by-dom0", "");
    guest1.watch("data", "t");
    const tx = guest1.begin();
    guest1.write("data/k", "", tx);
    guest2.watch("data", "t");
    guest2.events();
    xenstored.domainDied(1);
    expect(guest1.ended).toBe(true);
    expect(guest2.events().sort()).toEqual(["data/left|t"]);
    expect(dom0.list("/local/domain/2/data")).toBe("");
    expect(dom0.list("/local/domain/1")).toBe("");
    expect(xenstored.store.tree.owned(1)).toBe(0);
    expect(xenstored.store.tree.inconsistencies()).toEqual([]);
    guest1.send("READ", ["data"]);
    expect(guest1.received.filter(({ text }) => text === "").length).toBe(0);
  });

  test("a new domain with the same number gets nothing of the old one's (XSA-322, XSA-481)", () => {
    const { dom0, guest1, xenstored } = guests({ quotas: { nodes: 10 } });
    dom0.write("/shared", "v");
    dom0.chmod("/shared", "n0", "r2", "r1");
    for (let i = 0; i < 9; i++) guest1.write(`data/${i}`, "");
    expect(guest1.write("data/more", "")).toBe("ENOSPC");
    xenstored.release(1);
    expect(dom0.ask("GET_PERMS", ["/shared"])).toBe("n0|r2");
    xenstored.introduce(1);
    const reborn = new RawClient(xenstored, 1);
    expect(reborn.read("/shared")).toBe("EACCES");
    expect(reborn.read("data/0")).toBe("EACCES");
    dom0.mkdir("/local/domain/1/data");
    dom0.chmod("/local/domain/1/data", "n1");
    for (let i = 0; i < 9; i++) expect(reborn.write(`data/${i}`, "")).toBe("OK");
  });

  test("a dead device model's or target's rights end", () => {
    const { dom0, guest1, guest2, xenstored } = guests();
    guest1.write("data/k", "v");
    dom0.ask("SET_TARGET", ["2", "1"]);
    xenstored.release(1);
    xenstored.introduce(1);
    dom0.write("/local/domain/1/data/k", "v");
    dom0.chmod("/local/domain/1/data/k", "n1");
    expect(guest2.read("/local/domain/1/data/k")).toBe("EACCES");
  });
});

test("a domain introduced again starts afresh on the same connection", () => {
  const { dom0, guest1, xenstored } = guests();
  guest1.watch("data", "t");
  const tx = guest1.begin();
  guest1.connection.receive(Uint8Array.of(2, 0, 0)); // half a header from before
  guest1.events();
  xenstored.introduce(1);
  expect(guest1.read("data", tx)).toBe("ENOENT");
  expect(guest1.read("data")).toBe("");
  guest1.events();
  dom0.write("/local/domain/1/data/k", "");
  expect(guest1.events()).toEqual([]);
});

test("RESET_WATCHES drops the caller's watches and transactions, also inside one of them (XSA-330, XSA-484)", () => {
  const { dom0, guest1, guest2 } = guests();
  for (const guest of [guest1, guest2]) guest.watch("data", "t");
  const [tx, other] = [guest1.begin(), guest1.begin()];
  guest1.write("data/k", "", tx);
  expect(guest1.ask("RESET_WATCHES", [""], tx)).toBe("OK");
  for (const gone of [tx, other]) expect(guest1.commit(gone)).toBe("ENOENT");
  guest1.events();
  guest2.events();
  dom0.write("/local/domain/1/data/x", "");
  dom0.write("/local/domain/2/data/x", "");
  expect(guest1.events()).toEqual([]);
  expect(guest2.events()).toHaveLength(1);
  expect(guest1.watch("data", "t")).toBe("OK");
  for (let i = 0; i < 10; i++) expect(guest1.begin()).toBeGreaterThan(0);
});

describe("requests", () => {
  test("what only Dom0 may ask", () => {
    const { guest1 } = guests();
    for (const name of ["CONTROL", "INTRODUCE", "RELEASE", "RESUME", "SET_TARGET", "IS_DOMAIN_INTRODUCED"] as const)
      expect(guest1.ask(name, ["1"]), name).toBe("EACCES");
    expect(guest1.ask("GET_DOMAIN_PATH", ["2"])).toBe("/local/domain/2");
  });

  test.each([15, 16, 20, 23, 24, 25, 26, 65535, 0xffffffff])("type %i is unknown", (type) => {
    const { dom0 } = guests();
    expect(dom0.ask(type, ["/"])).toBe("ENOSYS");
    expect(dom0.read("/")).toBe("");
  });

  test("CONTROL: check, print, help, memreport, and nothing else", () => {
    const log: string[] = [];
    const { dom0, guest1 } = guests({ onNotice: (text) => log.push(text) });
    expect(dom0.ask("CONTROL", ["check"])).toBe("OK");
    expect(dom0.ask("CONTROL", ["print", "hello"])).toBe("OK");
    expect(log).toEqual(["hello"]);
    expect(dom0.ask("CONTROL", ["help"])).toContain("check");
    guest1.watch("data", "t");
    guest1.begin();
    expect(dom0.ask("CONTROL", ["memreport"])).toMatch(
      /^domid\tnodes\twatches\ttransactions\tbytes\n0\t.*\n1\t1\t1\t1\t\d+\n2\t1\t0\t0\t\d+\n$/,
    );
    expect(dom0.ask("CONTROL", ["toString"])).toBe("EINVAL");
    expect(dom0.ask("CONTROL", ["log", "on"])).toBe("EINVAL");
  });

  test("payloads that lack a string, a NUL, or a number", () => {
    const { dom0 } = guests();
    for (const name of ["READ", "DIRECTORY", "GET_PERMS", "MKDIR", "RM", "GET_DOMAIN_PATH", "RELEASE"] as const) {
      expect(dom0.ask(name, [], 0, ""), name).toBe("EINVAL");
      expect(dom0.ask(name, [], 0, "/a"), name).toBe("EINVAL");
      expect(dom0.ask(name, ["/a", "/b"]), name).toBe("EINVAL");
    }
    expect(dom0.ask("WRITE", [], 0, "/a")).toBe("EINVAL");
    expect(dom0.ask("GET_DOMAIN_PATH", ["99999"])).toBe("EINVAL");
    expect(dom0.ask("GET_DOMAIN_PATH", ["1x"])).toBe("EINVAL");
  });
});
