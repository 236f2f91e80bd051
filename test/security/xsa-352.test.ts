/** XSA-352 and XSA-483 (CVE-2020-29486): a guest gives its nodes to somebody else, whose quota then pays; and counts that outlive a domain. */
import { expect, test } from "vitest";
import { RingHost } from "../xen/xenstore/ring-host.js";

test("only Dom0 changes an owner", () => {
  const host = new RingHost();
  const [guest] = [host.guest(1), host.guest(2)];
  guest.write("data/k", "v");
  for (const owner of ["n2", "b0", "r3"]) expect(guest.ask("SET_PERMS", ["data/k", owner, "b1"])).toBe("EPERM");
  const tx = Number(guest.ask("TRANSACTION_START"));
  expect(guest.ask("SET_PERMS", ["data/k", "n2"], tx)).toBe("EPERM");
  expect(guest.ask("TRANSACTION_END", ["T"], tx)).toBe("OK");
  expect(host.xenstored.store.tree.owned(2)).toBe(1);
  expect(host.dom0.chmod("/local/domain/1/data/k", "n2")).toBe("OK");
  expect(host.xenstored.store.tree.owned(2)).toBe(2);
  expect(guest.ask("SET_PERMS", ["data/k", "n1"])).toBe("EACCES");
});

test("a domain made anew with the same number has all of every quota", () => {
  const host = new RingHost({ quotas: { nodes: 12, watches: 3, transactions: 2 } });
  const fill = (domid: number) => {
    const guest = host.guest(domid);
    const count = (ask: () => string | undefined, good: RegExp) => {
      for (let done = 0; ; done++) if (!good.test(ask() ?? "")) return done;
    };
    let i = 0;
    return [
      count(() => guest.write(`data/${i++}`, "v"), /^OK$/),
      count(() => guest.ask("WATCH", ["data", String(i++)]), /^OK$/),
      count(() => guest.ask("TRANSACTION_START"), /^\d+$/),
    ];
  };
  for (let life = 0; life < 5; life++) {
    expect(fill(1)).toEqual([11, 3, 2]);
    host.xenstored.release(1);
    expect(host.xenstored.memory(1)).toBe(0);
  }
});
