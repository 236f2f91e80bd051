/** XSA-206 (xenstored write floods): guests that write all the time keep the toolstack's transactions from committing. */
import { expect, test } from "vitest";
import { ManualClock } from "../xen/xenstore/manual-clock.js";
import { RingHost } from "../xen/xenstore/ring-host.js";

const READ_FIRST = "/local/domain/1/data";

function setUp(...domids: number[]) {
  const clock = new ManualClock();
  const host = new RingHost({ clock });
  return { clock, host, guests: domids.map((domid) => host.guest(domid)) };
}

test("while Dom0 holds a transaction a guest has ten writes at once, then two hundred a second", () => {
  const { clock, host, guests } = setUp(1);
  const [guest] = guests;
  const tx = host.dom0.begin();
  host.dom0.read("/local/domain/1", tx);
  for (let i = 0; i < 1000; i++) guest!.send("WRITE", ["data/k"], 0, String(i));
  host.run();
  const answered = () => guest!.received.length;
  expect(answered()).toBe(11); // the eleventh puts it into debt
  for (let ms = 0; ms < 1000; ms++) {
    clock.advance(1);
    host.run();
  }
  expect(answered()).toBeGreaterThan(190);
  expect(answered()).toBeLessThan(230);
  // The toolstack gets its commit through.
  expect(host.dom0.write("/local/domain/0/x", "1", tx)).toBe("OK");
  expect(host.dom0.commit(tx)).toBe("OK");
  clock.advance(1000);
  host.run();
  expect(answered()).toBe(1000); // nobody else's transaction is open: as fast as it can
});

test("the rate is shared: many guests write no more than one", () => {
  const { clock, host, guests } = setUp(1, 2, 3, 4);
  host.dom0.begin();
  for (const guest of guests) for (let i = 0; i < 1000; i++) guest.send("WRITE", ["data/k"], 0, String(i));
  host.run();
  const before = guests.map(({ received }) => received.length);
  expect(before).toEqual([11, 11, 11, 11]);
  for (let ms = 0; ms < 2000; ms++) {
    clock.advance(1);
    host.run();
  }
  const after = guests.map(({ received }, i) => received.length - before[i]!);
  const sum = after.reduce((total, one) => total + one, 0);
  expect(sum).toBeGreaterThan(300);
  expect(sum).toBeLessThan(450);
  for (const one of after) expect(one).toBeGreaterThan(sum / 4 / 1.5); // none is starved
});

test("a transaction that the flood touches commits between two of its writes", () => {
  const { clock, host, guests } = setUp(1);
  const [guest] = guests;
  host.dom0.begin(); // another one of Dom0's, that stays open
  for (let i = 0; i < 500; i++) guest!.send("WRITE", ["data"], 0, String(i));
  host.run();
  let attempts = 0;
  for (let verdict = ""; verdict !== "OK"; attempts++) {
    const tx = host.dom0.begin();
    host.dom0.read(READ_FIRST, tx);
    clock.advance(1);
    host.run();
    host.dom0.write("/result", "", tx);
    verdict = host.dom0.commit(tx);
  }
  expect(attempts).toBeLessThan(5);
});

test("Dom0, reads, and a guest's own transaction are not held up", () => {
  const { host, guests } = setUp(1);
  const [guest] = guests;
  for (let i = 0; i < 200; i++) expect(guest!.write("data/k", String(i))).toBe("OK");
  const own = Number(guest!.ask("TRANSACTION_START"));
  for (let i = 0; i < 200; i++) expect(guest!.write("data/k", String(i))).toBe("OK");
  for (let i = 0; i < 200; i++) expect(guest!.write("data/k", String(i), own)).toBe("OK");
  expect(guest!.ask("TRANSACTION_END", ["F"], own)).toBe("OK");
  host.dom0.begin();
  for (let i = 0; i < 200; i++) expect(guest!.ask("READ", ["data/k"])).toBe("199");
  for (let i = 0; i < 200; i++) expect(host.dom0.write("/x", String(i))).toBe("OK");
});

test("a guest that resets its ring after each write gains nothing by it", () => {
  const { host, guests } = setUp(1);
  const [guest] = guests;
  host.dom0.begin();
  let written = 0;
  for (let i = 0; i < 100; i++) {
    if (guest!.write("data/k", String(i)) === "OK") written++;
    guest!.forget();
    guest!.set("connection", 1);
    guest!.notify();
    host.run();
    expect(guest!.get("connection")).toBe(0);
  }
  expect(written).toBe(11);
});

test("a commit counts like a write", () => {
  const { host, guests } = setUp(1);
  const [guest] = guests;
  host.dom0.begin();
  let commits = 0;
  for (let i = 0; i < 30; i++) {
    const tx = guest!.ask("TRANSACTION_START");
    if (tx === undefined) break;
    guest!.write("data/k", String(i), Number(tx));
    if (guest!.ask("TRANSACTION_END", ["T"], Number(tx)) === "OK") commits++;
  }
  expect(commits).toBe(11);
});
