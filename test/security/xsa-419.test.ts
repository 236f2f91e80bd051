/** XSA-419 (CVE-2022-42322, CVE-2022-42323): guests that work together keep nodes of a dead one, and with them its quota. */
import { expect, test } from "vitest";
import { RingHost } from "../xen/xenstore/ring-host.js";

test("what a dead domain owned goes wherever it lies, with everything below it", () => {
  const host = new RingHost();
  const [dying, friend] = [host.guest(1), host.guest(2)];
  friend.ask("SET_PERMS", ["data", "n2", "b1"]);
  expect(dying.write("/local/domain/2/data/kept/deep", "1")).toBe("OK");
  dying.ask("SET_PERMS", ["/local/domain/2/data/kept", "b1"]);
  dying.ask("SET_PERMS", ["/local/domain/2/data/kept/deep", "b1"]);
  expect(friend.write("data/kept/deep/friends", "2")).toBe("OK");
  friend.write("data/own", "3");
  const friends = host.xenstored.store.tree.owned(2);

  friend.ask("WATCH", ["data/kept", "t"]);
  friend.received.length = 0;
  host.xenstored.release(1);
  host.run();
  expect(friend.ask("DIRECTORY", ["data"])).toBe("own");
  expect(friend.watchEvents()).toContain("data/kept|t");
  expect(host.xenstored.store.tree.owned(1)).toBe(0);
  expect(host.xenstored.store.tree.owned(2)).toBe(friends - 1);
  expect(host.xenstored.store.tree.inconsistencies()).toEqual([]);
});

test("a transaction open at that moment does not bring them back", () => {
  const host = new RingHost();
  const [dying, friend] = [host.guest(1), host.guest(2)];
  friend.ask("SET_PERMS", ["data", "n2", "b1"]);
  dying.write("/local/domain/2/data/kept", "1");
  dying.ask("SET_PERMS", ["/local/domain/2/data/kept", "b1"]);
  const tx = Number(friend.ask("TRANSACTION_START"));
  expect(friend.write("data/kept", "held", tx)).toBe("OK");
  host.xenstored.release(1);
  expect(friend.ask("TRANSACTION_END", ["T"], tx)).toBe("EAGAIN");
  expect(friend.ask("DIRECTORY", ["data"])).toBe("");
});
