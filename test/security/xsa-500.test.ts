/**
 * XSA-500, 520, 523: copies took a pinned entry for what it had been when it was pinned, kept a reference, or reached bytes
 * that were not granted. Here each copy judges the entry anew, and the bounds of both ends.
 */
import { expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { host } from "./platform-support.js";

const READING = 8;
const WRITING = 16;

test.each([
  ["became somebody else's", (word: number) => (word & 0xffff) | (9 << 16), GNTST.general_error, GNTST.general_error],
  ["became transitive", (word: number) => word | 3, GNTST.general_error, GNTST.general_error],
  ["became sub-page", (word: number) => word | 0x100, GNTST.general_error, GNTST.general_error],
  ["became a transfer", (word: number) => (word & ~3) | 2, GNTST.general_error, GNTST.general_error],
  ["became nothing", (word: number) => word & ~3, GNTST.general_error, GNTST.general_error],
  ["became read-only", (word: number) => word | 4, GNTST.okay, GNTST.general_error],
] as const)("a pinned entry that %s", (_what, change, reading, writing) => {
  const { dom0, guests } = host();
  const { domid, grant, entries, flags } = guests[0]!;
  const { page, ref } = grant();
  page.bytes.fill(0x11);
  const handle = dom0.foreign.map(domid, ref, true);
  Atomics.store(entries, ref * 2, change(Atomics.load(entries, ref * 2)));
  const own = new Uint8Array(4096).fill(0x22);
  const end = { domid, ref, offset: 0 };
  expect(dom0.foreign.copy([{ source: own, dest: end, length: 4096 }])).toEqual([writing]);
  expect(page.bytes.every((byte) => byte === 0x11)).toBe(true);
  expect(dom0.foreign.copy([{ source: end, dest: own, length: 4096 }])).toEqual([reading]);
  expect(own[4095]).toBe(reading === GNTST.okay ? 0x11 : 0x22);
  expect(flags(ref) & (READING | WRITING)).toBe(READING | WRITING); // the mapping's, untouched
  expect(dom0.foreign.unmap(handle)).toBe(GNTST.okay);
  expect(flags(ref) & (READING | WRITING)).toBe(0);
});

test("a pinned entry whose frame went beyond the granter's memory", () => {
  const { xen, dom0, guests } = host();
  const { domid, grant, entries, pages } = guests[0]!;
  const { ref } = grant();
  const handle = dom0.foreign.map(domid, ref, true);
  for (const frame of [pages.memory.byteLength / 4096, 1 << 30, -1]) {
    entries[ref * 2 + 1] = frame;
    const own = new Uint8Array(8);
    expect(dom0.foreign.copy([{ source: { domid, ref, offset: 0 }, dest: own, length: 8 }])).toEqual([GNTST.bad_page]);
    expect(dom0.foreign.copy([{ source: own, dest: { domid, ref, offset: 0 }, length: 8 }])).toEqual([GNTST.bad_page]);
  }
  expect(dom0.foreign.unmap(handle)).toBe(GNTST.okay);
  expect(xen.domain(domid)?.foreignMaps).toBe(0);
});

test("bounds are kept to the byte, on every end", () => {
  const { dom0, guests } = host(1, 1 << 16);
  const { domid, pages, grant } = guests[0]!;
  const middle = grant();
  const memory = Buffer.from(pages.memory);
  const reset = () => {
    memory.fill(0x33);
    middle.page.bytes.fill(0x44);
  };
  const start = middle.page.firstFrame * 4096;
  for (const length of [1, 2, 511, 4095, 4096])
    for (const offset of [0, 1, 2, 511, 3585, 4094, 4095, 4096, 4097, 65535, -1, 0.5, Number.NaN]) {
      reset();
      const fits = Number.isInteger(offset) && offset >= 0 && offset + length <= 4096;
      const expected = Buffer.from(memory);
      if (fits) expected.fill(0x55, start + offset, start + offset + length);
      const own = Buffer.alloc(4200, 0x55);
      const end = { domid, ref: middle.ref, offset };
      const status = fits ? GNTST.okay : GNTST.bad_copy_arg;
      expect(dom0.foreign.copy([{ source: own, dest: end, length }])).toEqual([status]);
      expect(memory.equals(expected)).toBe(true);

      reset();
      const into = Buffer.alloc(4200, 0x66);
      expect(dom0.foreign.copy([{ source: end, dest: into, length }])).toEqual([status]);
      const wanted = Buffer.alloc(4200, 0x66);
      if (fits) wanted.fill(0x44, 0, length);
      expect(into.equals(wanted)).toBe(true);
    }
});

test("lengths that are none, and own ends that are too short", () => {
  const { dom0, guests } = host();
  const { domid, grant } = guests[0]!;
  const { ref, page } = grant();
  const end = { domid, ref, offset: 0 };
  for (const length of [-1, 4097, 65536, 2 ** 32, 0.5, Number.NaN, Infinity])
    expect(
      dom0.foreign.copy([
        { source: end, dest: new Uint8Array(70_000), length },
        { source: new Uint8Array(70_000).fill(1), dest: end, length },
      ]),
    ).toEqual([GNTST.bad_copy_arg, GNTST.bad_copy_arg]);
  expect(dom0.foreign.copy([{ source: end, dest: new Uint8Array(7), length: 8 }])).toEqual([GNTST.bad_copy_arg]);
  expect(dom0.foreign.copy([{ source: new Uint8Array(7).fill(1), dest: end, length: 8 }])).toEqual([
    GNTST.bad_copy_arg,
  ]);
  expect(page.bytes.every((byte) => byte === 0)).toBe(true);
});

test("both ends granted, of one page or two domains, overlapping too; one failure stops no other copy", () => {
  const { xen, dom0, guests } = host(2);
  const [one, other] = guests as [(typeof guests)[number], (typeof guests)[number]];
  const from = one.grant(true);
  const to = other.grant();
  for (let i = 0; i < 4096; i++) from.page.bytes[i] = i * 7;
  const source = { domid: one.domid, ref: from.ref, offset: 100 };
  const dest = { domid: other.domid, ref: to.ref, offset: 200 };
  expect(
    dom0.foreign.copy([
      { source, dest, length: 1000 },
      { source: dest, dest: source, length: 1000 }, // the first page is read-only
      { source: dest, dest: { ...dest, offset: 300 }, length: 1000 }, // overlapping
      { source, dest: { ...dest, offset: 0 }, length: 1 },
    ]),
  ).toEqual([GNTST.okay, GNTST.general_error, GNTST.okay, GNTST.okay]);
  const expected = Buffer.alloc(4096);
  Buffer.from(from.page.bytes).copy(expected, 200, 100, 1100);
  expected.copyWithin(300, 200, 1200);
  expected[0] = from.page.bytes[100]!;
  expect(Buffer.from(to.page.bytes).equals(expected)).toBe(true);
  for (const { domid } of guests) expect(xen.domain(domid)?.foreignMaps).toBe(0);
});
