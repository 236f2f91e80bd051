/**
 * XSA-414, XSA-415, XSA-421 and XSA-440 (CVE-2022-42309, 42310, 42325, 42326, CVE-2023-34323): creating nodes fails half-way,
 * or they are made and removed in one transaction, and the store has orphans or false accounts.
 * The random version of this, against a reference model, is test/xen/xenstore/model.test.ts.
 */
import { expect, test } from "vitest";
import { RingHost } from "../xen/xenstore/ring-host.js";

function setUp() {
  const host = new RingHost({ quotas: { nodes: 6 } });
  const guest = host.guest(1);
  const sound = () => expect(host.xenstored.store.tree.inconsistencies()).toEqual([]);
  return { host, guest, sound, owned: () => host.xenstored.store.tree.owned(1) };
}

test("a path that is too deep for the quota leaves none of its nodes", () => {
  const { host, guest, sound, owned } = setUp();
  expect(guest.write("data/a/b/c/d/e/f/g", "v")).toBe("ENOSPC");
  expect(owned()).toBe(1);
  expect(host.dom0.list("/local/domain/1/data")).toBe("");
  sound();
});

test("the same in a transaction dooms it, whatever it did before or after", () => {
  const { guest, sound, owned } = setUp();
  const tx = Number(guest.ask("TRANSACTION_START"));
  expect(guest.write("data/before", "v", tx)).toBe("OK");
  expect(guest.write("data/a/b/c/d/e/f/g", "v", tx)).toBe("ENOSPC");
  expect(guest.write("data/after", "v", tx)).toBe("OK");
  expect(guest.ask("TRANSACTION_END", ["T"], tx)).toBe("ENOMEM");
  expect(owned()).toBe(1);
  sound();
});

test("made and removed in one transaction: no account below zero, no name left", () => {
  const { host, guest, sound, owned } = setUp();
  for (let round = 0; round < 50; round++) {
    const tx = Number(guest.ask("TRANSACTION_START"));
    guest.write("data/x/y", "v", tx);
    guest.ask("RM", ["data/x"], tx);
    if (round % 2) guest.write("data/x", "again", tx);
    expect(guest.ask("TRANSACTION_END", ["T"], tx)).toBe("OK");
    sound();
    expect(owned()).toBe(1 + (round % 2));
    guest.ask("RM", ["data/x"]);
  }
  expect(host.dom0.list("/local/domain/1/data")).toBe("");
  // The quota is still what it was.
  for (let i = 0; i < 10; i++) guest.write(`data/${i}`, "");
  expect(owned()).toBe(6);
});

test("the parent of what a transaction made is removed by somebody else meanwhile", () => {
  const { host, guest, sound, owned } = setUp();
  guest.write("data/dir", "");
  const tx = Number(guest.ask("TRANSACTION_START"));
  expect(guest.write("data/dir/a/b", "v", tx)).toBe("OK");
  host.dom0.rm("/local/domain/1/data/dir");
  expect(guest.ask("TRANSACTION_END", ["T"], tx)).toBe("EAGAIN");
  expect(owned()).toBe(1);
  sound();
});

test("a node is removed while its owner's is made, in transactions of both", () => {
  const { host, guest, sound } = setUp();
  guest.write("data/dir/a", "");
  const [mine, dom0s] = [Number(guest.ask("TRANSACTION_START")), host.dom0.begin()];
  guest.ask("RM", ["data/dir/a"], mine);
  host.dom0.write("/local/domain/1/data/dir/b", "", dom0s);
  expect(host.dom0.commit(dom0s)).toBe("OK");
  expect(guest.ask("TRANSACTION_END", ["T"], mine)).toBe("EAGAIN");
  expect(host.dom0.list("/local/domain/1/data/dir")).toBe("a|b");
  sound();
});
