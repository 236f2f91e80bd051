/** XSA-418 (CVE-2022-42321): deep trees use up the daemon's stack. */
import { expect, test } from "vitest";
import { RingHost } from "../xen/xenstore/ring-host.js";

test("a thousand levels are made, told of, removed, committed and forgotten", () => {
  const host = new RingHost({ quotas: { nodes: 2000 } });
  const guest = host.guest(1);
  const deep = `data${"/a".repeat(1000)}`;
  guest.ask("WATCH", [deep, "t"]);
  expect(guest.write(deep, "bottom")).toBe("OK");
  expect(host.xenstored.store.tree.owned(1)).toBe(1001);
  expect(guest.ask("READ", [deep])).toBe("bottom");
  const tx = Number(guest.ask("TRANSACTION_START"));
  expect(guest.ask("RM", ["data/a"], tx)).toBe("OK");
  expect(guest.ask("TRANSACTION_END", ["T"], tx)).toBe("OK");
  expect(host.xenstored.store.tree.owned(1)).toBe(1);
  expect(guest.watchEvents().at(-1)).toBe(`${deep}|t`);
  expect(guest.write(deep, "again")).toBe("OK");
  host.xenstored.release(1);
  expect(host.xenstored.store.tree.owned(1)).toBe(0);
  expect(host.xenstored.store.tree.inconsistencies()).toEqual([]);
});
