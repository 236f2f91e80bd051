/**
 * XSA-226, 411, 318, 316, 448: transitive grants, and copies of nothing or cut short on their error paths, were counted wrongly.
 * Here neither transitive nor sub-page grants nor transfers exist; a copy of no bytes looks at nothing; what fails leaves nothing.
 */
import { expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { XEN_WORDS } from "#src/xen/platform/simulated/domain-pages.js";
import { host } from "./platform-support.js";

const PERMIT = 1;
const TRANSFER = 2;
const TRANSITIVE = 3;
const SUB_PAGE = 0x100;
/** GTF_reading and GTF_writing as a guest may forge them. */
const FORGED = 8 | 16;

test.each([
  ["transitive", TRANSITIVE],
  ["sub-page", PERMIT | SUB_PAGE],
  ["transitive and sub-page", TRANSITIVE | SUB_PAGE],
  ["a transfer", TRANSFER],
  ["a transfer that says it is done", TRANSFER | 8],
  ["none", 0],
])("an entry that is %s: no map, no copy, and nothing left", (_what, flags) => {
  const { xen, dom0, guests } = host();
  const { domid, entries, pages, grant } = guests[0]!;
  const { page, ref } = grant();
  page.bytes.fill(0x5a);
  for (const forged of [0, FORGED]) {
    const word = flags | forged;
    Atomics.store(entries, ref * 2, word);
    const into = new Uint8Array(4096);
    for (const writable of [false, true]) expect(dom0.foreign.map(domid, ref, writable)).toBe(GNTST.general_error);
    expect(
      dom0.foreign.copy([
        { source: { domid, ref, offset: 0 }, dest: into, length: 4096 },
        { source: into, dest: { domid, ref, offset: 0 }, length: 4096 },
      ]),
    ).toEqual([GNTST.general_error, GNTST.general_error]);
    expect(Atomics.load(entries, ref * 2)).toBe(word);
    expect(into.every((byte) => byte === 0)).toBe(true);
  }
  expect(page.bytes.every((byte) => byte === 0x5a)).toBe(true);
  expect(dom0.foreign.mapped).toBe(0);
  expect(xen.domain(domid)?.foreignMaps).toBe(0);
  expect(new Int32Array(pages.xen)[XEN_WORDS.pins + ref]).toBe(0);
});

test("a copy of no bytes is okay and touches nothing, whatever its ends are", () => {
  const { xen, dom0, guests } = host();
  const { domid, grant, flags } = guests[0]!;
  const { ref } = grant();
  const before = flags(ref);
  const ends = [
    new Uint8Array(0),
    { domid, ref, offset: 4096 },
    { domid, ref, offset: 70_000 },
    { domid: 99, ref: 1, offset: 0 },
    { domid, ref: 1 << 30, offset: 0 },
  ];
  for (const source of ends)
    for (const dest of ends) expect(dom0.foreign.copy([{ source, dest, length: 0 }])).toEqual([GNTST.okay]);
  expect(flags(ref)).toBe(before);
  expect(xen.domain(domid)?.foreignMaps).toBe(0);
});

test("a copy whose second end fails takes back the pin of the first", () => {
  const { xen, dom0, guests } = host();
  const { domid, grant, guest, flags } = guests[0]!;
  const good = grant();
  const readonly = grant(true);
  const copy = { source: { domid, ref: good.ref, offset: 0 }, length: 512 };
  for (const [dest, status] of [
    [{ domid, ref: readonly.ref, offset: 0 }, GNTST.general_error],
    [{ domid, ref: 512, offset: 0 }, GNTST.bad_gntref],
    [{ domid: 99, ref: 8, offset: 0 }, GNTST.bad_domain],
  ] as const) {
    expect(dom0.foreign.copy([{ ...copy, dest }])).toEqual([status]);
    expect(flags(good.ref) & FORGED).toBe(0);
  }
  expect(xen.domain(domid)?.foreignMaps).toBe(0);
  expect(guest.grants.endAccess(good.ref)).toBe(true);
  expect(guest.grants.endAccess(readonly.ref)).toBe(true);
});

test("a ring of which one page cannot be mapped leaves none mapped", () => {
  const { xen, dom0, guests } = host();
  const { domid, grant, guest } = guests[0]!;
  const refs = Array.from({ length: 16 }, () => grant().ref);
  for (let bad = 0; bad < refs.length; bad++)
    expect(dom0.foreign.mapRing(domid, refs.with(bad, 400))).toBe(GNTST.general_error);
  expect(dom0.foreign.mapped).toBe(0);
  expect(xen.domain(domid)?.foreignMaps).toBe(0);
  expect(refs.every((ref) => guest.grants.endAccess(ref))).toBe(true);
});
