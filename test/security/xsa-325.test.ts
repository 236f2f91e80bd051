/** XSA-325 and XSA-425 (CVE-2020-29483, CVE-2022-42330): a client that misbehaves, or is reset, upsets the end of its domain. */
import { expect, test } from "vitest";
import { SOCKMSG } from "#src/xen/xenstore/wire.js";
import { RingHost } from "../xen/xenstore/ring-host.js";

function setUp() {
  const host = new RingHost();
  const guest = host.guest(1);
  host.dom0.watch("@releaseDomain", "gone");
  host.dom0.events();
  return { host, guest };
}

test("a domain whose client was isolated is released like any other", () => {
  const { host, guest } = setUp();
  guest.ask("WATCH", ["data", "t"]);
  guest.push(SOCKMSG.encode({ type: 0, reqId: 0, txId: 0, len: 0xffffffff }));
  host.run();
  expect(guest.get("error")).toBe(3);
  expect(host.dom0.events()).toEqual([]);
  expect(host.dom0.ask("RELEASE", ["1"])).toBe("OK");
  expect(host.dom0.events()).toEqual(["@releaseDomain|gone"]);
  expect(host.platform.foreign.mapped).toBe(0);
  expect(host.dom0.list("/local/domain/1")).toBe("");
});

test("released in the midst of a request, of a transaction, of a reply that it does not read", () => {
  for (const half of [3, 16, 20]) {
    const { host, guest } = setUp();
    guest.reads = false;
    guest.ask("TRANSACTION_START");
    for (let i = 0; i < 100; i++) guest.send("WATCH", ["data", `${i}`]);
    guest.push(SOCKMSG.encode({ type: 11, reqId: 0, txId: 0, len: 100 }).subarray(0, half));
    host.run();
    host.xenstored.release(1);
    host.run();
    expect(host.platform.foreign.mapped).toBe(0);
    expect(host.dom0.events()).toEqual(["@releaseDomain|gone"]);
    expect(host.xenstored.usage().map(({ domid }) => domid)).toEqual([0]);
    expect(host.xenstored.store.openTransactions).toBe(0);
  }
});

test("soft reset: introduced again at any time, and released after that", () => {
  const { host, guest } = setUp();
  for (let round = 0; round < 20; round++) {
    guest.ask("WATCH", ["data", "t"]);
    guest.ask("TRANSACTION_START");
    guest.send("READ", ["data"]); // under way
    guest.forget();
    expect(guest.introduce()).toBe("OK");
    expect(guest.ask("READ", ["data"])).toBe("");
    expect(guest.watchEvents()).toEqual([]);
    expect(host.platform.foreign.mapped).toBe(1);
  }
  expect(host.dom0.events()).toEqual([]);
  expect(host.dom0.ask("RELEASE", ["1"])).toBe("OK");
  expect(host.dom0.ask("RELEASE", ["1"])).toBe("ENOENT");
  expect(host.dom0.events()).toEqual(["@releaseDomain|gone"]);
});

test("a domain that asks for a reset of its ring while all is under way gets an empty one", () => {
  const { host, guest } = setUp();
  guest.reads = false;
  for (let i = 0; i < 100; i++) guest.send("WATCH", ["data", `${i}`]);
  host.run();
  guest.forget();
  guest.set("connection", 1);
  guest.notify();
  host.run();
  expect([guest.get("connection"), guest.get("reqProd"), guest.get("rspProd")]).toEqual([0, 0, 0]);
  guest.reads = true;
  expect(guest.ask("WATCH", ["data", "0"])).toBe("OK"); // none of the watches is left
  host.dom0.write("/local/domain/1/data", "");
  host.run();
  expect(guest.watchEvents()).toEqual(["data|0", "data|0"]);
});

test("a page or a port that is not there is answered, and nothing is introduced", () => {
  const { host } = setUp();
  host.newDomain(5); // its builder has granted nothing
  expect(host.dom0.ask("INTRODUCE", ["5", "1", "1"])).toBe("EINVAL");
  expect(host.dom0.ask("INTRODUCE", ["6", "1", "1"])).toBe("EINVAL");
  expect(host.dom0.ask("IS_DOMAIN_INTRODUCED", ["5"])).toBe("F");
  expect(host.platform.foreign.mapped).toBe(1);
});
