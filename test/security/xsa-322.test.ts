/** XSA-322 and XSA-417 (CVE-2020-29481, CVE-2022-42320): a new domain with a dead one's number gets at what the dead one could. */
import { expect, test } from "vitest";
import { RingHost } from "../xen/xenstore/ring-host.js";

test("destroyed and made anew: nothing of the old nodes, watches or rights, also not in transactions open meanwhile", () => {
  const host = new RingHost();
  const [old, other] = [host.guest(1), host.guest(2)];
  old.write("data/mine", "1");
  other.write("data/for-1", "secret");
  other.ask("SET_PERMS", ["data/for-1", "n2", "r1"]);
  expect(old.ask("READ", ["/local/domain/2/data/for-1"])).toBe("secret");
  old.ask("WATCH", ["/local/domain/2/data/for-1", "t"]);
  // A transaction that names domain 1 while it lives, and commits when it is dead.
  const tx = Number(other.ask("TRANSACTION_START"));
  other.write("data/late", "secret", tx);
  expect(other.ask("SET_PERMS", ["data/late", "n2", "r1"], tx)).toBe("OK");

  host.xenstored.release(1);
  expect(other.ask("TRANSACTION_END", ["T"], tx)).toBe("EAGAIN");
  const reborn = host.newDomain(1);
  expect(reborn.introduce()).toBe("OK");
  expect(reborn.ask("READ", ["/local/domain/2/data/for-1"])).toBe("EACCES");
  expect(reborn.ask("READ", ["/local/domain/2/data/late"])).toBe("EACCES");
  expect(reborn.ask("READ", ["data/mine"])).toBe("EACCES");
  other.write("data/for-1", "more");
  host.run();
  expect(reborn.watchEvents()).toEqual([]);
  expect(host.xenstored.store.tree.owned(1)).toBe(0);
});

test("an entry for a domain that does not exist yet gives it nothing when it does", () => {
  const exists = new Set([1, 2]);
  const host = new RingHost({ domainExists: (domid) => exists.has(domid) });
  const other = host.guest(2);
  other.write("data/k", "secret");
  expect(other.ask("SET_PERMS", ["data/k", "n2", "r7"])).toBe("OK");
  exists.add(7);
  expect(host.guest(7).ask("READ", ["/local/domain/2/data/k"])).toBe("EACCES");
});
