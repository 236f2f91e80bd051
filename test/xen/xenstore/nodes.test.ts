/** Nodes, paths and permissions, as clients see them in replies (fact sheet 6.1 and 6.2). */
import { describe, expect, test } from "vitest";
import { createBootTree } from "#src/xen/xenstore/boot-tree.js";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { guests, RawClient } from "./support.js";

describe("nodes", () => {
  test("write makes the nodes above, with empty values; a value is raw bytes", () => {
    const { dom0 } = guests();
    expect(dom0.write("/a/b/c", "x\0y")).toBe("OK");
    expect(dom0.read("/a/b/c")).toBe("x|y");
    expect(dom0.received.at(-1)!.payload).toEqual(Uint8Array.from([0x78, 0, 0x79]));
    expect(dom0.read("/a")).toBe("");
    expect(dom0.received.at(-1)!.payload).toHaveLength(0);
    expect(dom0.list("/a")).toBe("b");
  });

  test("a listing keeps the order of creation", () => {
    const { dom0 } = guests();
    for (const name of ["z", "a", "m"]) dom0.mkdir(`/d/${name}`);
    dom0.rm("/d/a");
    dom0.write("/d/a", "");
    expect(dom0.list("/d")).toBe("z|m|a");
    expect(dom0.list("/d/z")).toBe("");
  });

  test("mkdir leaves an existing node's value", () => {
    const { dom0 } = guests();
    dom0.write("/a", "1");
    expect(dom0.mkdir("/a")).toBe("OK");
    expect(dom0.read("/a")).toBe("1");
  });

  test("rm takes the subtree, and a missing node only when its parent exists", () => {
    const { dom0, xenstored } = guests();
    dom0.write("/a/b/c", "1");
    expect(dom0.rm("/a")).toBe("OK");
    expect(dom0.read("/a/b/c")).toBe("ENOENT");
    expect(dom0.rm("/a")).toBe("OK");
    expect(dom0.rm("/a/b")).toBe("ENOENT");
    expect(dom0.rm("/")).toBe("EINVAL");
    expect(xenstored.store.tree.inconsistencies()).toEqual([]);
  });

  test("a tree as deep as a path can be is made, listed and removed without a stack (XSA-418)", () => {
    const { dom0, xenstored } = guests();
    const before = xenstored.store.tree.size;
    const deepest = "/x".repeat(1024);
    expect(dom0.write(deepest, "bottom")).toBe("OK");
    expect(dom0.read(deepest)).toBe("bottom");
    expect(xenstored.store.tree.size).toBe(before + 1024);
    expect(dom0.rm("/x")).toBe("OK");
    expect(xenstored.store.tree.size).toBe(before);
  });

  test("listings above 4096 bytes come in parts that agree on the generation", () => {
    const { dom0 } = guests();
    const names = Array.from({ length: 700 }, (_, i) => `child-${i}`);
    for (const name of names) dom0.mkdir(`/many/${name}`);
    expect(dom0.list("/many")).toBe("E2BIG");
    const found: string[] = [];
    let generation: string | undefined;
    for (let offset = 0, ended = false; !ended; ) {
      dom0.ask("DIRECTORY_PART", ["/many", String(offset)]);
      const { payload } = dom0.received.at(-1)!;
      expect(payload.length).toBeLessThanOrEqual(4096);
      const [head, ...part] = Buffer.from(payload).toString("latin1").split("\0");
      expect((generation ??= head)).toBe(head);
      part.pop();
      if ((ended = part.at(-1) === "")) part.pop();
      found.push(...part);
      offset += Buffer.byteLength(part.join("\0")) + 1;
    }
    expect(found).toEqual(names);
    dom0.mkdir("/many/one-more");
    dom0.ask("DIRECTORY_PART", ["/many", "0"]);
    expect(dom0.received.at(-1)!.text.split("|")[0]).not.toBe(generation);
  });

  test("parts: an empty node, an offset behind the end", () => {
    const { dom0 } = guests();
    dom0.mkdir("/empty");
    for (const offset of ["0", "4", "99999"]) {
      dom0.ask("DIRECTORY_PART", ["/empty", offset]);
      expect(Buffer.from(dom0.received.at(-1)!.payload).toString()).toMatch(/^\d+\0\0$/);
    }
    expect(dom0.ask("DIRECTORY_PART", ["/empty"])).toBe("EINVAL");
    expect(dom0.ask("DIRECTORY_PART", ["/empty", "-1"])).toBe("EINVAL");
  });

  test("the tree at boot", () => {
    const xenstored = new Xenstored();
    createBootTree(xenstored);
    const dom0 = new RawClient(xenstored, 0);
    expect(dom0.list("/")).toBe("tool");
    expect(dom0.list("/tool")).toBe("xenstored");
    expect(dom0.ask("GET_PERMS", ["@releaseDomain"])).toBe("n0");
    expect(dom0.ask("GET_PERMS", ["@introduceDomain"])).toBe("n0");
  });
});

describe("paths", () => {
  const { dom0, guest1 } = guests();

  test.each([
    ["/a//b"],
    ["/a/"],
    ["//"],
    [""],
    ["/a b"],
    ["/a\u00e4"],
    ["/a\n"],
    ["/a.b"],
    ["@releaseDomain"],
    ["/local/domain/"],
    [`/${"a".repeat(3072)}`],
    [`/${"a".repeat(2048)}`],
    [`/local/domain/1/${"a".repeat(2049)}`],
  ])("%j is refused", (path) => {
    for (const request of ["READ", "MKDIR", "RM", "DIRECTORY"] as const)
      expect(dom0.ask(request, [path])).toBe("EINVAL");
    expect(dom0.write(path, "")).toBe("EINVAL");
  });

  test.each([["/A-Z_a-z@0-9"], [`/${"a".repeat(2047)}`], [`/local/domain/1/${"a".repeat(2048)}`]])(
    "%j is allowed",
    (path) => {
      expect(dom0.write(path, "1")).toBe("OK");
      expect(dom0.read(path)).toBe("1");
      dom0.rm(path);
    },
  );

  test("a relative path starts at the caller's home", () => {
    expect(guest1.write("data/k", "v")).toBe("OK");
    expect(dom0.read("/local/domain/1/data/k")).toBe("v");
    expect(dom0.write("backend/vbd", "x")).toBe("OK");
    expect(dom0.read("/local/domain/0/backend/vbd")).toBe("x");
  });
});

describe("permissions", () => {
  test("owner, list and default: the first entry that names a domain decides", () => {
    const { dom0, guest1, guest2 } = guests();
    dom0.mkdir("/p");
    dom0.write("/p/k", "v");
    const outcome = (...permissions: string[]) => {
      expect(dom0.chmod("/p/k", ...permissions)).toBe("OK");
      return [guest1, guest2].map((guest) => [guest.read("/p/k"), guest.write("/p/k", "v")].join(" "));
    };
    expect(outcome("n0")).toEqual(["EACCES EACCES", "EACCES EACCES"]);
    expect(outcome("r0")).toEqual(["v EACCES", "v EACCES"]);
    expect(outcome("b0", "n2")).toEqual(["v OK", "EACCES EACCES"]);
    expect(outcome("n0", "w1", "r2")).toEqual(["EACCES OK", "v EACCES"]);
    expect(outcome("n0", "r1", "b1")).toEqual(["v EACCES", "EACCES EACCES"]);
    expect(outcome("n1")).toEqual(["v OK", "EACCES EACCES"]);
    expect(dom0.read("/p/k")).toBe("v");
  });

  test("the root is no exception (XSA-353)", () => {
    const { dom0, guest1 } = guests();
    expect(guest1.list("/")).toBe("EACCES");
    expect(guest1.write("/new", "")).toBe("EACCES");
    expect(guest1.rm("/")).toBe("EACCES");
    dom0.chmod("/", "r0");
    expect(guest1.list("/")).toBe("local");
  });

  test("a guest's new nodes are its own, with what the parent lets others do; Dom0's stay the parent's owner's", () => {
    const { dom0, guest1 } = guests();
    dom0.chmod("/local/domain/1/data", "r1", "w2");
    guest1.write("data/a/b", "");
    dom0.write("/local/domain/1/data/c", "");
    for (const key of ["a", "a/b", "c"]) expect(dom0.ask("GET_PERMS", [`/local/domain/1/data/${key}`])).toBe("r1|w2");
    dom0.chmod("/local/domain/2/data", "b2");
    guest1.write("/local/domain/2/data/mine", "");
    expect(dom0.ask("GET_PERMS", ["/local/domain/2/data/mine"])).toBe("b1");
  });

  test("what is missing is denied where the caller may not look, and missing where it may", () => {
    const { dom0, guest1 } = guests();
    dom0.write("/secret/here", "1");
    for (const path of ["/secret/here", "/secret/gone", "/secret/gone/deeper"]) {
      expect(guest1.read(path)).toBe("EACCES");
      expect(guest1.rm(path)).toBe("EACCES");
      expect(guest1.write(path, "")).toBe("EACCES");
    }
    expect(guest1.read("data/gone")).toBe("ENOENT");
    expect(guest1.read("gone")).toBe("ENOENT");
    expect(guest1.write("gone", "")).toBe("EACCES");
    expect(guest1.rm("data/gone")).toBe("OK");
    expect(guest1.rm("data/gone/deeper")).toBe("ENOENT");
  });

  test("removing needs write permission on the node alone, not on what is below", () => {
    const { dom0, guest1 } = guests();
    dom0.write("/local/domain/1/data/sub/secret", "1");
    dom0.chmod("/local/domain/1/data/sub/secret", "n0");
    expect(guest1.rm("data/sub/secret")).toBe("EACCES");
    expect(guest1.rm("data/sub")).toBe("OK");
    expect(dom0.read("/local/domain/1/data/sub/secret")).toBe("ENOENT");
  });

  test("only the owner changes permissions, and only Dom0 the owner (XSA-352)", () => {
    const { dom0, guest1, guest2 } = guests();
    guest1.write("data/k", "v");
    expect(guest1.chmod("data/k", "r1", "b2")).toBe("OK");
    expect(guest2.chmod("/local/domain/1/data/k", "b1")).toBe("EACCES");
    expect(guest1.chmod("data/k", "n2")).toBe("EPERM");
    expect(guest1.chmod("data/k", "n0")).toBe("EPERM");
    expect(dom0.chmod("/local/domain/1/data/k", "n2", "r1")).toBe("OK");
    expect(guest1.chmod("data/k", "n1")).toBe("EACCES");
    expect(guest1.ask("GET_PERMS", ["data/k"])).toBe("n2|r1");
  });

  test.each([[["x0"]], [["r"]], [["r99999"]], [["r32752"]], [["r-1"]], [["r1 "]], [["R1"]], [[""]], [[]]])(
    "%j is no list",
    (list) => {
      const { dom0 } = guests();
      dom0.mkdir("/p");
      expect(dom0.ask("SET_PERMS", ["/p", ...list])).toBe("EINVAL");
    },
  );

  test("a domain that does not exist can own nothing, and is named without effect", () => {
    const alive = new Set([1, 2]);
    const { dom0, xenstored } = guests({ domainExists: (domid) => alive.has(domid) });
    dom0.write("/p", "v");
    expect(dom0.chmod("/p", "n5")).toBe("ENOENT");
    expect(dom0.chmod("/p", "n0", "r5")).toBe("OK");
    expect(dom0.ask("GET_PERMS", ["/p"])).toBe("n0|r5");
    alive.add(5);
    xenstored.introduce(5);
    const guest5 = new RawClient(xenstored, 5);
    expect(guest5.read("/p")).toBe("EACCES");
    dom0.chmod("/p", "n0", "r5");
    expect(guest5.read("/p")).toBe("v");
  });

  test("a device model has its target's rights", () => {
    const { dom0, guest1, guest2 } = guests();
    guest1.write("data/k", "v");
    expect(guest2.read("/local/domain/1/data/k")).toBe("EACCES");
    expect(dom0.ask("SET_TARGET", ["2", "1"])).toBe("OK");
    expect(guest2.read("/local/domain/1/data/k")).toBe("v");
    expect(guest2.chmod("/local/domain/1/data/k", "r1")).toBe("OK");
    expect(dom0.ask("SET_TARGET", ["2", "9"])).toBe("ENOENT");
    expect(guest1.ask("SET_TARGET", ["1", "2"])).toBe("EACCES");
  });

  test("special nodes have permissions and nothing else", () => {
    const { dom0, guest1 } = guests();
    expect(guest1.ask("GET_PERMS", ["@releaseDomain"])).toBe("EACCES");
    expect(dom0.chmod("@releaseDomain", "r0")).toBe("OK");
    expect(guest1.ask("GET_PERMS", ["@releaseDomain"])).toBe("r0");
    expect(guest1.chmod("@releaseDomain", "b0")).toBe("EACCES");
    expect(dom0.ask("GET_PERMS", ["@other"])).toBe("ENOENT");
  });
});
