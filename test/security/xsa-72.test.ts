/** XSA-38, XSA-72 and XSA-420 (CVE-2013-0215, CVE-2013-4416, CVE-2022-42324): ring indices and lengths that cannot be, from a guest. */
import { describe, expect, test } from "vitest";
import { CONNECTION_ERROR } from "#src/xen/xenstore/ring.js";
import { encodeMessage, joinStrings, MESSAGE_TYPES, SOCKMSG } from "#src/xen/xenstore/wire.js";
import { type RawGuest, RingHost } from "../xen/xenstore/ring-host.js";

function isolated(host: RingHost, hostile: RawGuest, other: RawGuest, error: number): void {
  host.run();
  expect(hostile.get("error")).toBe(error);
  expect(hostile.events).toBeGreaterThan(0);
  expect(host.platform.foreign.mapped).toBe(1); // the other's page alone
  // From then on nothing of its page counts.
  hostile.set("error", 0);
  hostile.set("reqCons", 0);
  hostile.set("reqProd", 0);
  hostile.set("rspCons", 0);
  hostile.set("rspProd", 0);
  hostile.forget();
  expect(hostile.ask("READ", ["data"])).toBeUndefined();
  expect(host.xenstored.usage().find(({ domid }) => domid === hostile.domid)).toMatchObject({
    watches: 0,
    transactions: 0,
  });
  // The others notice nothing.
  expect(other.write("data/k", "v")).toBe("OK");
  expect(host.dom0.read("/local/domain/2/data/k")).toBe("v");
  expect(host.xenstored.store.tree.inconsistencies()).toEqual([]);
}

function setUp() {
  const host = new RingHost();
  const [hostile, other] = [host.guest(1), host.guest(2)];
  expect(hostile.ask("WATCH", ["data", "t"])).toBe("OK");
  expect(Number(hostile.ask("TRANSACTION_START"))).toBeGreaterThan(0);
  return { host, hostile, other };
}

describe.each([
  ["reqProd", 1025],
  ["reqProd", 0x7fffffff],
  ["reqProd", 0x80000000],
  ["reqProd", -1],
  ["reqCons", 1],
  ["rspProd", -1],
  ["rspCons", 1],
  ["rspCons", 0x40000000],
] as const)("%s moved by %i", (word, by) => {
  test("ends the connection with error 2", () => {
    const { host, hostile, other } = setUp();
    hostile.set(word, hostile.get(word) + by);
    hostile.notify();
    // Something to send, so that the response stream is looked at.
    host.dom0.write("/local/domain/1/data", "x");
    isolated(host, hostile, other, CONNECTION_ERROR.ringIndex);
  });
});

test("responses that cannot be sent because of forged indices do not reach who caused them", () => {
  const { host, hostile, other } = setUp();
  hostile.set("rspCons", hostile.get("rspProd") + 5);
  // Without an event from the hostile domain: Dom0's own write finds the ring spoiled, and succeeds.
  expect(host.dom0.write("/local/domain/1/data", "x")).toBe("OK");
  isolated(host, hostile, other, CONNECTION_ERROR.ringIndex);
});

describe.each([4097, 65_536, 0x7fffffff, 0x80000000, 0xffffffff])("a message that announces %i bytes", (len) => {
  test("ends the connection with error 3", () => {
    const { host, hostile, other } = setUp();
    hostile.push(SOCKMSG.encode({ type: MESSAGE_TYPES.WRITE, reqId: 9, txId: 0, len }));
    isolated(host, hostile, other, CONNECTION_ERROR.protocol);
  });
});

test("the longest message is one: 4096 bytes pass through a ring of 1024, from any start of the indices", () => {
  for (const start of [0, 1, 1000, 0xffffff00, 0xffffffff]) {
    const host = new RingHost();
    const guest = host.newDomain(1);
    for (const word of ["reqCons", "reqProd", "rspCons", "rspProd"] as const) guest.set(word, start);
    expect(guest.introduce()).toBe("OK");
    const path = "/local/domain/1/data";
    host.dom0.mkdir(path);
    host.dom0.chmod(path, "b0"); // Dom0's node: no quota of the guest's in the way
    guest.push(
      encodeMessage({ type: MESSAGE_TYPES.READ, reqId: 1, txId: 0, payload: joinStrings([`/${"x".repeat(2000)}`]) }),
    );
    const value = "v".repeat(4096 - path.length - 1);
    expect(host.dom0.write(path, value)).toBe("OK");
    expect(guest.ask("READ", [path])).toBe(value);
    expect(guest.get("error")).toBe(0);
  }
});

test("introduced again, the isolated domain starts with an empty ring", () => {
  const { host, hostile } = setUp();
  hostile.set("reqProd", hostile.get("reqProd") + 5000);
  hostile.notify();
  host.run();
  expect(hostile.get("error")).toBe(2);
  hostile.forget();
  expect(hostile.introduce()).toBe("OK");
  expect(hostile.get("error")).toBe(0);
  expect(hostile.ask("READ", ["data"])).toBe("");
  expect(host.platform.foreign.mapped).toBe(2);
});

test("a storm of events with an empty ring is answered with nothing", () => {
  const { host, hostile, other } = setUp();
  host.run();
  const before = hostile.events;
  for (let i = 0; i < 10_000; i++) {
    hostile.notify();
    host.pass();
  }
  hostile.turn();
  expect(hostile.events).toBe(before);
  expect(other.write("data/k", "v")).toBe("OK");
});
