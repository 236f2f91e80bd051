/** XSA-330 and XSA-484 (CVE-2020-29485): RESET_WATCHES leaks what it should drop, or fails inside a transaction. */
import { expect, test } from "vitest";
import { RingHost } from "../xen/xenstore/ring-host.js";

test("a hundred thousand watches and transactions, reset again and again, leave nothing behind", () => {
  const host = new RingHost();
  const guest = host.guest(1);
  const before = host.xenstored.memory(1);
  for (let round = 0; round < 100; round++) {
    for (let i = 0; i < 20; i++) guest.send("WATCH", ["data", `t${i}`]);
    const tx = Number(guest.ask("TRANSACTION_START"));
    guest.write("data/k", "v", tx);
    // Outside of any, inside of its own, inside of one that is none.
    const reply = guest.ask("RESET_WATCHES", [""], [0, tx, 9999][round % 3]);
    expect(reply).toBe(round % 3 === 2 ? "ENOENT" : "OK");
    if (round % 3 === 2) expect(guest.ask("RESET_WATCHES")).toBe("OK");
    expect(guest.ask("TRANSACTION_END", ["T"], tx)).toBe("ENOENT");
    guest.received.length = 0;
  }
  expect(host.xenstored.usage().find(({ domid }) => domid === 1)).toMatchObject({ watches: 0, transactions: 0 });
  expect(host.xenstored.memory(1)).toBe(before);
  expect(host.xenstored.store.openTransactions).toBe(0);
  host.dom0.write("/local/domain/1/data", "x");
  host.run();
  expect(guest.watchEvents()).toEqual([]);
  expect(guest.get("error")).toBe(0);
});
