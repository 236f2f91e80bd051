/**
 * XSA-295, 380, 73, 232: a guest that keeps changing its entry held a hypercall up for good; loops without bounds; locks
 * taken in two orders; checks that were missing.
 */
import { afterEach, expect, test, vi } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { host, race } from "./platform-support.js";

const READING = 8;
const WRITING = 16;
const PWT = 32;

afterEach(() => vi.restoreAllMocks());

test("a map that loses every race for the entry gives up after five, with general_error and no pin", () => {
  const { xen, dom0, guests } = host();
  const { domid, grant, entries, guest, flags } = guests[0]!;
  const { ref } = grant();
  const real = Atomics.compareExchange;
  let races = 0;
  vi.spyOn(Atomics, "compareExchange").mockImplementation(((
    words: Int32Array,
    at: number,
    expected: number,
    value: number,
  ) => {
    if (words.buffer !== entries.buffer) return real(words, at, expected, value);
    races++;
    Atomics.xor(entries, at, PWT); // the guest is always the faster one
    return real(words, at, expected, value);
  }) as typeof Atomics.compareExchange);
  expect(dom0.foreign.map(domid, ref, true)).toBe(GNTST.general_error);
  expect(races).toBe(5);
  vi.restoreAllMocks();
  expect(xen.domain(domid)?.foreignMaps).toBe(0);
  expect(flags(ref) & (READING | WRITING)).toBe(0);
  expect(guest.grants.endAccess(ref)).toBe(true);
});

test("a guest's thread that rewrites its entry all the time: each map ends, and tells the truth", async () => {
  const { xen, dom0, guests } = host();
  const { domid, pages, grant, entries } = guests[0]!;
  const { ref } = grant();
  // Valid, caching bits changed, not there, for somebody else, read-only.
  const words = [1, 1 | PWT, 0, 1 | (7 << 16), 1 | 4];
  const hostile = race(
    pages,
    0,
    [],
    `
      const at = data.ref * 2;
      for (const word of data.words) {
        const old = Atomics.load(data.entries, at);
        Atomics.compareExchange(data.entries, at, old, word | (old & 24));
      }
    `,
    { ref, entries, words },
  );
  await hostile.reached(1000);
  const seen = new Set<number>();
  for (let i = 0; i < 20_000; i++) {
    const handle = dom0.foreign.map(domid, ref, true);
    seen.add(Math.min(handle, 0));
    if (handle < 0) continue;
    if ((Atomics.load(entries, ref * 2) & (READING | WRITING)) !== (READING | WRITING))
      expect.fail("mapped without bits");
    if (dom0.foreign.unmap(handle) !== GNTST.okay) expect.fail("cannot unmap");
  }
  await hostile.stop();
  for (const status of seen) expect([GNTST.okay, GNTST.general_error]).toContain(status);
  expect(xen.domain(domid)?.foreignMaps).toBe(0);
  expect(entries[ref * 2]! & (READING | WRITING)).toBe(0);
});

test("two domains that bind to each other and close at once never wait for each other for good", async () => {
  const { guests } = host(2);
  const [one, other] = guests as [(typeof guests)[number], (typeof guests)[number]];
  const body = `
    const mine = platform.events.allocUnbound(data.peer);
    Atomics.store(data.ports, data.own, mine);
    const theirs = Atomics.load(data.ports, data.peer);
    if (theirs > 0) {
      try {
        const bound = platform.events.bindInterdomain(data.peer, theirs);
        platform.events.notify(bound);
        platform.events.close(bound);
      } catch (error) {
        if (error.code !== "PROTOCOL") throw error;
        state.refused = (state.refused ?? 0) + 1;
      }
    }
    platform.vcpu.dispatch();
    platform.events.close(mine);
  `;
  const ports = new Int32Array(new SharedArrayBuffer(64));
  const racers = [
    race(one.pages, 0, [other.pages], body, { own: one.domid, peer: other.domid, ports }),
    race(other.pages, 0, [one.pages], body, { own: other.domid, peer: one.domid, ports }),
  ];
  for (const racer of racers) await racer.reached(2000);
  for (const racer of racers) await racer.stop();
  for (const { guest } of guests)
    for (let port = 3; port < 1024; port++) {
      const { state } = guest.hypercalls.portStatus(port);
      if (state !== "closed") expect.fail(`port ${port} is ${state}`);
    }
});
