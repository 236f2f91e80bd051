/**
 * XSA-218, 224, 228, 230, 236: pins and references were counted wrongly, status bits were cleared while somebody still had
 * the page, and handles were lost, when several vcpus mapped and unmapped at once. (`xen/platform-model.test.ts` has the
 * interleavings of one thread; here the threads race.)
 */
import { expect, test } from "vitest";
import { XEN_WORDS } from "#src/xen/platform/simulated/domain-pages.js";
import { host, race } from "./platform-support.js";

const REFS = 4;
const READING = 8;
const WRITING = 16;

/** Maps, copies and unmaps in changing order; whoever holds a writable mapping sees the bits that say so. */
const MAPPER = `
  const { granter, refs, entries } = data;
  const held = (state.held ??= []);
  state.seed = ((state.seed ?? data.seed) * 1103515245 + 12345) & 0x7fffffff;
  const pick = state.seed >> 8;
  const ref = refs[pick % refs.length];
  const writable = (pick & 64) !== 0;
  const handle = platform.foreign.map(granter, ref, writable);
  if (handle < 0) throw new Error("map of " + ref + " gave " + handle);
  const word = Atomics.load(entries, ref * 2);
  if (!(word & 8) || (writable && !(word & 16))) throw new Error("mapped, and the bits say " + (word & 24));
  held.push({ handle, ref, writable });
  if (pick & 128) {
    const [status] = platform.foreign.copy([{ source: new Uint8Array(64), dest: { domid: granter, ref, offset: 0 }, length: 64 }]);
    if (status !== 0) throw new Error("copy gave " + status);
  }
  while (held.length > pick % 7) {
    const [old] = held.splice(pick % held.length, 1);
    const bits = Atomics.load(entries, old.ref * 2);
    if (!(bits & 8) || (old.writable && !(bits & 16))) throw new Error("still mapped, and the bits say " + (bits & 24));
    const status = platform.foreign.unmap(old.handle);
    if (status !== 0) throw new Error("unmap gave " + status);
  }
`;

test("three vcpus that map, copy and unmap the same grants at once", async () => {
  const { xen, dom0, guests } = host();
  const { domid, pages, grant, entries, guest, flags } = guests[0]!;
  const refs = Array.from({ length: REFS }, () => grant().ref);
  const racers = [2, 3, 4].map((vcpu) =>
    race(xen.dom0, vcpu, [pages], MAPPER, { granter: domid, refs, entries, seed: vcpu * 7919 }),
  );
  for (const racer of racers) await racer.reached(3000);
  for (const ref of refs) {
    // A mapping that stays while all others come and go: the granter never gets its page back under it.
    const handle = dom0.foreign.map(domid, ref, true);
    for (let i = 0; i < 2000; i++) {
      expect(guest.grants.clearAccess(ref)).toBe(false);
      if ((flags(ref) & (READING | WRITING)) !== (READING | WRITING)) expect.fail(`bits are ${flags(ref)}`);
    }
    dom0.foreign.unmap(handle);
  }
  const states = (await Promise.all(racers.map((racer) => racer.stop()))) as {
    held: { ref: number; writable: boolean }[];
  }[];

  // What the threads hold at their end is what is counted, to the last pin.
  const held = states.flatMap((state) => state.held);
  expect(xen.domain(domid)?.foreignMaps).toBe(held.length);
  for (const ref of refs) {
    const mine = held.filter((each) => each.ref === ref);
    const bits = (mine.length > 0 ? READING : 0) | (mine.some(({ writable }) => writable) ? WRITING : 0);
    expect(flags(ref) & (READING | WRITING)).toBe(bits);
  }
  for (const vcpu of [2, 3, 4]) xen.releaseVcpu(0, vcpu);
  expect(xen.domain(domid)?.foreignMaps).toBe(0);
  expect(refs.every((ref) => guest.grants.endAccess(ref))).toBe(true);
});

test("threads killed in the middle of it leave no pin, no lock and no handle", async () => {
  const { xen, dom0, guests } = host();
  const { domid, pages, grant, entries, guest } = guests[0]!;
  const refs = Array.from({ length: REFS }, () => grant().ref);
  for (let round = 0; round < 3; round++) {
    const racers = [2, 3].map((vcpu) =>
      race(xen.dom0, vcpu, [pages], MAPPER, { granter: domid, refs, entries, seed: round * 31 + vcpu }),
    );
    for (const racer of racers) await racer.reached(50 + round * 17);
    await Promise.all(racers.map((racer) => racer.kill()));
    for (const vcpu of [2, 3]) xen.releaseVcpu(0, vcpu);
    expect(xen.domain(domid)?.foreignMaps).toBe(0);
    expect(refs.map((ref) => entries[ref * 2]! & (READING | WRITING))).toEqual([0, 0, 0, 0]);
  }
  const words = new Int32Array(xen.dom0.xen);
  expect(words.subarray(XEN_WORDS.maptrackOwners, XEN_WORDS.maptrack).every((owner) => owner === 0)).toBe(true);
  expect(words.subarray(XEN_WORDS.maptrack).every((row) => row === 0)).toBe(true);
  const handle = dom0.foreign.map(domid, refs[0]!, true);
  expect(dom0.foreign.unmap(handle)).toBe(0);
  expect(refs.every((ref) => guest.grants.endAccess(ref))).toBe(true);
});
