/** XSA-115 and XSA-353 (CVE-2020-29480, CVE-2020-29479): watch events, and the root node, without a look at permissions. */
import { describe, expect, test } from "vitest";
import { RingHost } from "../xen/xenstore/ring-host.js";

function setUp() {
  const host = new RingHost();
  return { host, guest: host.guest(1), other: host.guest(2) };
}

describe("a guest is told nothing of nodes that it may not read", () => {
  test.each([
    ["created", "/local/domain/2/data/secret"],
    ["below a node of its own name", "/local/domain/2/data/a/b/c"],
  ])("%s", (_, path) => {
    const { host, guest, other } = setUp();
    for (const at of ["/", "/local/domain/2", "/local/domain/2/data", path]) guest.ask("WATCH", [at, "t"]);
    guest.received.length = 0;
    expect(other.write(path, "s")).toBe("OK");
    expect(other.write(path, "t")).toBe("OK");
    expect(other.ask("RM", ["data"])).toBe("OK");
    host.run();
    expect(guest.watchEvents()).toEqual([]);
  });

  test("special watches, also those of a domain that comes and goes", () => {
    const { host, guest } = setUp();
    for (const special of ["@introduceDomain", "@releaseDomain"]) guest.ask("WATCH", [special, "t"]);
    guest.received.length = 0;
    host.guest(3);
    host.xenstored.release(3);
    host.run();
    expect(guest.watchEvents()).toEqual([]);
  });

  test("permissions taken away within the transaction that writes", () => {
    const { host, guest, other } = setUp();
    other.ask("SET_PERMS", ["data", "n2", "r1"]);
    guest.ask("WATCH", ["/local/domain/2/data", "t"]);
    other.ask("SET_PERMS", ["data", "n2"]);
    guest.received.length = 0;
    other.write("data/k", "1");
    host.run();
    expect(guest.watchEvents()).toEqual([]);
  });

  test("and of those that it may read, everything", () => {
    const { host, guest, other } = setUp();
    other.ask("SET_PERMS", ["data", "n2", "r1"]);
    guest.ask("WATCH", ["/local/domain/2/data", "t"]);
    guest.received.length = 0;
    other.write("data/k", "1");
    host.run();
    expect(guest.watchEvents()).toEqual(["/local/domain/2/data/k|t"]);
  });
});

test("the root node is Dom0's: not to be read, written, listed, removed or given away", () => {
  const { host, guest } = setUp();
  expect(guest.ask("READ", ["/"])).toBe("EACCES");
  expect(guest.ask("DIRECTORY", ["/"])).toBe("EACCES");
  expect(guest.ask("GET_PERMS", ["/"])).toBe("EACCES");
  expect(guest.write("/", "x")).toBe("EACCES");
  expect(guest.write("/new", "x")).toBe("EACCES");
  expect(guest.ask("RM", ["/"])).toBe("EACCES");
  expect(guest.ask("SET_PERMS", ["/", "n1"])).toBe("EACCES");
  expect(host.dom0.rm("/")).toBe("EINVAL");
  host.dom0.chmod("/", "r0");
  expect(guest.ask("DIRECTORY", ["/"])).toContain("local");
});
