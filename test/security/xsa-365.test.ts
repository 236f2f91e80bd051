/**
 * XSA-361, 362, 365 (CVE-2021-26932, 26931, 26930): errors of grant operations were ignored, taken for bugs, or lost.
 * XSA-371 (CVE-2021-28688): the cure of 365 leaked persistent grants. Each status at each index of a request.
 */
import { describe, expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { ERROR, isUntouched, OKAY, rawFrontend, settle, verdict, wholePages } from "../xen/raw-frontend.js";

const STATUSES = Object.entries(GNTST).filter(([, status]) => status < 0);

describe.each([
  ["mapped for each request", false],
  ["persistent", true],
] as const)("grants %s", (_kind, persistent) => {
  test.each(STATUSES)("%s at each index", async (_name, status) => {
    let failAt = -1;
    let maps = 0;
    const front = rawFrontend({
      persistent,
      foreign: (real) => ({
        map: (domid, ref, writable) => (maps++ === failAt ? status : real.map(domid, ref, writable)),
      }),
    });
    const back = front.connect();
    front.data.bytes.fill(0xff);
    for (const { op, count } of [
      { op: 1, count: 11 },
      { op: 6, count: 40 },
    ])
      for (let index = 0; index < count + (op === 6 ? 1 : 0); index++) {
        // New grants each time: with those that are kept nothing is left to fail.
        const segments = wholePages(front, count).map((segment, i) => ({
          ...segment,
          gref: front.guest.grants.grantAccess(0, front.data.firstFrame + i, false),
        }));
        const indirectRef = front.guest.grants.grantAccess(0, front.indirect.firstFrame, false);
        failAt = index;
        maps = 0;
        expect(await verdict(front, back, { op, inner: 1, segments, indirectRef })).toBe(ERROR);
        expect(maps).toBe(index + 1); // it stops there
        failAt = -1;
        expect(await isUntouched(front.memory)).toBe(true);
        expect(back.grants.kept).toBeLessThanOrEqual(1056);
        if (!persistent) for (const { gref } of segments) expect(front.guest.grants.endAccess(gref)).toBe(true);
      }
    expect(await verdict(front, back, { op: 1, segments: wholePages(front, 11) })).toBe(OKAY);
    await back.close();
    expect(front.dom0.foreign.mapped).toBe(0);
  });

  test("a ring whose pages cannot all be mapped leaves none of them mapped", () => {
    for (const bad of [0, 1, 7]) {
      const front = rawFrontend({ pages: 8, persistent });
      front.guest.grants.clearAccess(front.ringRefs[bad]!);
      expect(() => front.connect()).toThrow(/grant status -1/);
      expect(front.dom0.foreign.mapped).toBe(0);
    }
  });

  test("more grants than are kept: the least recently used go, all of them serve, none stays", async () => {
    const front = rawFrontend({ persistent, maxIndirectSegments: 256 });
    const back = front.connect();
    const refs = Array.from({ length: 3000 }, (_, i) =>
      front.guest.grants.grantAccess(0, front.data.firstFrame + (i % 256), false),
    );
    for (let round = 0; round < 2; round++)
      for (let at = 0; at < refs.length; at += 200) {
        const segments = refs.slice(at, at + 200).map((gref) => ({ gref, first: 0, last: 7 }));
        expect(await verdict(front, back, { op: 6, inner: 0, segments })).toBe(OKAY);
        expect(back.grants.kept).toBeLessThanOrEqual(persistent ? 1056 : 0);
      }
    // What was used last is kept: asking again maps nothing.
    const mapped = front.dom0.foreign.mapped;
    const last = refs.slice(-200).map((gref) => ({ gref, first: 0, last: 7 }));
    expect(await verdict(front, back, { op: 6, inner: 0, segments: last })).toBe(OKAY);
    expect(front.dom0.foreign.mapped).toBe(mapped);
    if (persistent) expect(mapped).toBeGreaterThan(900);
    await back.close();
    expect(front.dom0.foreign.mapped).toBe(0);
    for (const ref of refs) expect(front.guest.grants.endAccess(ref)).toBe(true);
  });

  test("more pages under way at once than are kept", async () => {
    const front = rawFrontend({ persistent });
    const back = front.connect();
    const refs = Array.from({ length: 32 * 250 }, (_, i) =>
      front.guest.grants.grantAccess(0, front.data.firstFrame + (i % 256), false),
    );
    for (let i = 0; i < 32; i++) {
      const indirect = front.guest.grants.allocatePages(1);
      const words = new Int32Array(indirect.bytes.buffer, indirect.bytes.byteOffset, 1024);
      for (let s = 0; s < 250; s++) words.set([refs[i * 250 + s]!, 7 << 8], s * 2);
      const indirectRef = front.guest.grants.grantAccess(0, indirect.firstFrame, false);
      front.put({ op: 6, inner: 0, nrSegments: 250, indirectRef });
    }
    await settle(back);
    for (let i = 0; i < 32; i++) expect(front.response(i).status).toBe(OKAY);
    await back.close();
    expect(front.dom0.foreign.mapped).toBe(0);
  });
});
