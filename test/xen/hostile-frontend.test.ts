/** What a guest sends is answered with blkback's verdict, never thrown, and leaves nothing mapped (xen-blkback). */
import { describe, expect, test } from "vitest";
import { ABIS } from "#src/xen/blkif/layout.js";
import {
  EOPNOTSUPP,
  ERROR,
  isUntouched,
  OKAY,
  type RawFrontend,
  type RawRequest,
  rawFrontend,
  settle,
  verdict,
  wholePages,
} from "./raw-frontend.js";

const SIZE = 1 << 20;
const KINDS = Object.values(ABIS).flatMap((abi) =>
  [false, true].map((persistent) => [abi.protocol, persistent ? "kept" : "for each request", abi, persistent] as const),
);

describe.each(KINDS)("%s, grants mapped %s", (_protocol, _kind, abi, persistent) => {
  const connect = () => {
    const front = rawFrontend({ abi, persistent });
    return { front, back: front.connect() };
  };
  const seg = (front: RawFrontend, first = 0, last = 7) => ({ gref: front.granted(), first, last });

  test("good requests", async () => {
    const { front, back } = connect();
    front.data.bytes.fill(0x5a);
    expect(await verdict(front, back, { op: 1, segments: [seg(front)], sector: 8n })).toBe(OKAY);
    expect(await verdict(front, back, { op: 1, segments: [seg(front, 2, 3)], sector: 0n })).toBe(OKAY);
    front.data.bytes.fill(0);
    expect(await verdict(front, back, { op: 0, segments: [seg(front, 1, 2)], sector: 8n })).toBe(OKAY);
    expect([...front.data.bytes.subarray(510, 514)]).toEqual([0, 0, 0x5a, 0x5a]);
    expect([...front.data.bytes.subarray(1534, 1538)]).toEqual([0x5a, 0x5a, 0, 0]);
    expect(await verdict(front, back, { op: 3 })).toBe(OKAY);
    expect(await verdict(front, back, { op: 3, segments: [seg(front)], sector: 16n })).toBe(OKAY);
    expect(await verdict(front, back, { op: 2 })).toBe(OKAY);
    expect(await verdict(front, back, { op: 2, segments: [seg(front)], sector: 24n })).toBe(OKAY);
    expect(await verdict(front, back, { op: 5, sector: 0n, nrSectors: 8n })).toBe(OKAY);
    expect(await verdict(front, back, { op: 5, flag: 1, sector: 0n, nrSectors: 8n })).toBe(OKAY);
    await back.close();
    expect(front.dom0.foreign.mapped).toBe(0);
  });

  test.each([1, 11, 12, 255, 256])("%i segments through an indirect page", async (count) => {
    const { front, back } = connect();
    const segments = wholePages(front, count);
    for (let i = 0; i < count; i++) front.data.bytes.fill(i + 1, i * 4096, (i + 1) * 4096);
    expect(await verdict(front, back, { op: 6, inner: 1, segments })).toBe(OKAY);
    expect(front.response(0)).toMatchObject({ op: 1, status: OKAY });
    front.data.bytes.fill(0);
    expect(await verdict(front, back, { op: 6, inner: 0, segments: segments.toReversed() })).toBe(OKAY);
    expect(front.response(1)).toMatchObject({ op: 0, status: OKAY });
    for (let i = 0; i < count; i++) expect(front.data.bytes[i * 4096]).toBe((count - i) & 0xff);
    await back.close();
    expect(front.dom0.foreign.mapped).toBe(0);
  });

  test("id is echoed whole, operation too, padding is zero, the rest of the slot untouched", async () => {
    const { front, back } = connect();
    const id = 0xfedc_ba98_7654_3210n;
    front.put({ op: 0, segments: [seg(front)], id });
    await settle(back);
    expect(front.response(0)).toEqual({ id, op: 0, pad: 0, status: 0 });
    expect(front.ring.getUint8(64 + abi.stride - 1)).toBe(0xee);
    await back.close();
  });

  test.each<[string, number, Partial<RawRequest> | ((front: RawFrontend) => Partial<RawRequest>)]>([
    ["unknown operation", EOPNOTSUPP, { op: 4 }],
    ["operation 255", EOPNOTSUPP, { op: 255 }],
    ["no segments", ERROR, { op: 0 }],
    ["twelve segments", ERROR, { op: 0, nrSegments: 12 }],
    ["twelve segments of a barrier", ERROR, { op: 2, nrSegments: 12 }],
    ["255 segments", ERROR, { op: 1, nrSegments: 255 }],
    ["last before first", ERROR, (front) => ({ op: 0, segments: [seg(front, 3, 2)] })],
    ["sector 8 of a page", ERROR, (front) => ({ op: 0, segments: [seg(front, 0, 8)] })],
    ["sector 255 of a page", ERROR, (front) => ({ op: 1, segments: [seg(front, 0, 255)] })],
    ["one sector past the end", ERROR, (f) => ({ op: 0, segments: [seg(f, 0, 1)], sector: BigInt(SIZE / 512 - 1) })],
    ["far past the end", ERROR, (front) => ({ op: 1, segments: [seg(front)], sector: 1n << 40n })],
    ["sector that wraps 64 bits", ERROR, (f) => ({ op: 1, segments: [seg(f)], sector: 0xffff_ffff_ffff_fff8n })],
    ["grant that does not exist", ERROR, { op: 0, segments: [{ gref: 12345, first: 0, last: 7 }] }],
    ["grant beyond the table", ERROR, { op: 0, segments: [{ gref: 0xffff_ffff, first: 0, last: 7 }] }],
    ["read into a read-only grant", ERROR, (f) => ({ op: 0, segments: [{ gref: f.readable(), first: 0, last: 7 }] })],
    ["indirect without segments", ERROR, { op: 6, nrSegments: 0 }],
    ["257 indirect segments", ERROR, (front) => ({ op: 6, segments: wholePages(front, 257) })],
    ["65535 indirect segments", ERROR, { op: 6, nrSegments: 65535 }],
    ["indirect within indirect", ERROR, (front) => ({ op: 6, inner: 6, segments: [seg(front)] })],
    ["indirect barrier", ERROR, (front) => ({ op: 6, inner: 2, segments: [seg(front)] })],
    ["indirect discard", ERROR, (front) => ({ op: 6, inner: 5, segments: [seg(front)] })],
    ["indirect page that was never granted", ERROR, (f) => ({ op: 6, indirectRef: 30000, segments: [seg(f)] })],
    ["indirect page beyond the table", ERROR, (f) => ({ op: 6, indirectRef: 0xffff_ffff, segments: [seg(f)] })],
    ["indirect last before first", ERROR, (f) => ({ op: 6, inner: 1, segments: [seg(f), seg(f, 7, 0)] })],
    ["indirect sector 8 of a page", ERROR, (f) => ({ op: 6, inner: 1, segments: [seg(f), seg(f, 0, 8)] })],
    ["indirect past the end", ERROR, (f) => ({ op: 6, inner: 1, sector: 8n, segments: wholePages(f, 256) })],
    ["discard past the end", ERROR, { op: 5, sector: BigInt(SIZE / 512), nrSectors: 1n }],
    ["discard that wraps", ERROR, { op: 5, sector: 8n, nrSectors: 0xffff_ffff_ffff_ffffn }],
  ])("%s", async (_what, expected, request) => {
    const { front, back } = connect();
    const made = { op: 0, ...(typeof request === "function" ? request(front) : request) };
    front.data.bytes.fill(0xff);
    expect(await verdict(front, back, made)).toBe(expected);
    expect(front.response(0).op).toBe(made.op === 6 ? (made.inner ?? 0) : made.op);
    expect(await isUntouched(front.memory)).toBe(true);
    expect(await verdict(front, back, { op: 0, segments: [seg(front)] })).toBe(OKAY); // and the ring goes on
    await back.close();
    expect(front.dom0.foreign.mapped).toBe(0);
  });
});

test("a backend that offers no indirect requests does not know the operation", async () => {
  const front = rawFrontend({ maxIndirectSegments: 0 });
  const back = front.connect();
  expect(await verdict(front, back, { op: 6, segments: wholePages(front, 1) })).toBe(EOPNOTSUPP);
  expect(front.response(0).op).toBe(6);
  await back.close();
});

test("4096-byte sectors: units stay 512, alignment is 4096", async () => {
  const front = rawFrontend({ sectorSize: 4096 });
  const back = front.connect();
  const gref = front.granted();
  for (const op of [0, 6]) {
    const ask = (last: number, sector: bigint) =>
      verdict(front, back, { op, segments: [{ gref, first: 0, last }], sector });
    expect(await ask(7, 8n)).toBe(OKAY);
    expect(await ask(7, 4n)).toBe(ERROR);
    expect(await ask(3, 8n)).toBe(ERROR);
  }
  await back.close();
});

describe.each([1, 2, 4, 8, 16])("a ring of %i pages", (pages) => {
  test.each(Object.values(ABIS).map((abi) => [abi.protocol, abi] as const))(
    "%s: every slot, those that straddle pages too, and indices that wrap at 2^32",
    async (_name, abi) => {
      const front = rawFrontend({ pages, abi, start: 0xffff_ffff - 20 });
      const back = front.connect();
      expect(front.size).toBe(32 * pages);
      for (let round = 0; round < 2; round++) {
        const first = front.rspProd();
        for (let i = 0; i < front.size; i++)
          front.put({ op: 0, segments: [{ gref: front.granted(), first: 0, last: 0 }], id: BigInt(i) << 30n });
        await settle(back);
        for (let i = 0; i < front.size; i++)
          expect(front.response((first + i) >>> 0)).toEqual({ id: BigInt(i) << 30n, op: 0, pad: 0, status: OKAY });
      }
      await back.close();
      expect(front.dom0.foreign.mapped).toBe(0);
    },
  );

  test.each([
    ["one too many", 1],
    ["a thousand", 1000],
    ["half the numbers", 0x8000_0000 - 32 * pages],
    ["all but one", -1 - 32 * pages],
  ])("%s: a forged index stops the ring for good", async (_what, beyond) => {
    const front = rawFrontend({ pages });
    const back = front.connect();
    front.setReqProd((front.size + beyond) >>> 0);
    expect(back.take()).toBe(0);
    expect(back.failure).toMatchObject({ code: "PROTOCOL" });
    front.setReqProd(1); // too late to be good again
    expect(back.take()).toBe(0);
    expect(back.finalCheck()).toBe(false);
    await back.close();
    expect(front.dom0.foreign.mapped).toBe(0);
  });

  test("impossible indices at connect are refused, and nothing stays mapped", () => {
    const front = rawFrontend({ pages });
    front.setReqProd(front.size + 1);
    expect(() => front.connect()).toThrow(`${front.size + 1} requests, allowed ${front.size}`);
    expect(front.dom0.foreign.mapped).toBe(0);
  });

  test("a backend that comes back goes on at rsp_prod", async () => {
    const front = rawFrontend({ pages });
    const first = front.connect();
    expect(await verdict(front, first, { op: 3 })).toBe(OKAY);
    await first.close();
    front.put({ op: 3, id: 99n });
    const second = front.connect();
    await settle(second);
    expect(front.rspProd()).toBe(2);
    expect(front.response(1)).toMatchObject({ id: 99n, status: OKAY });
    await second.close();
  });
});
