/** XSA-361 and XSA-362 (CVE-2021-26932, CVE-2021-26931): errors of grant operations were ignored, or taken for bugs of the kernel. */
import { describe, expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { ERROR, isUntouched, OKAY, rawFrontend, settle, wholePages } from "../xen/raw-frontend.js";

describe.each([false, true])("persistent %s", (persistent) => {
  test("one bad grant among good requests of the same batch: that one fails, the others are served, none uses its page", async () => {
    const front = rawFrontend({ persistent, pages: 2 });
    const back = front.connect();
    front.data.bytes.fill(0x44);
    const bad = [
      31_000, // never granted
      2 ** 31, // beyond any table
      0xffff_ffff,
      front.readable(3), // a page that may not be written
    ];
    for (const [i, gref] of bad.entries()) {
      front.put({ op: 1, segments: wholePages(front, 2), sector: BigInt(i * 64), id: BigInt(i * 2) });
      const segments = [...wholePages(front, 3), { gref, first: 0, last: 7 }];
      front.put({ op: 0, segments, sector: 0n, id: BigInt(i * 2 + 1) });
    }
    await settle(back);
    const answers = Array.from({ length: bad.length * 2 }, (_, i) => front.response(i)).sort((a, b) =>
      Number(a.id - b.id),
    );
    expect(answers.map(({ status }) => status)).toEqual(bad.flatMap(() => [OKAY, ERROR]));
    expect(back.statistics).toMatchObject({ errors: bad.length, wr_req: bad.length, rd_req: 0 });
    expect(back.failure).toBeUndefined();
    await back.close();
    expect(front.dom0.foreign.mapped).toBe(0);
  });

  test("each status for each page of the ring and of a request: an error, no exception, nothing mapped", async () => {
    for (const status of Object.values(GNTST).filter((code) => code < 0)) {
      let failing = true;
      const front = rawFrontend({
        persistent,
        foreign: (real) => ({
          map: (...of) => (failing ? status : real.map(...of)),
          mapRing: (...of) => (failing ? status : real.mapRing(...of)),
        }),
      });
      expect(() => front.connect()).toThrow(new RegExp(`grant status ${status}`));
      failing = false;
      const back = front.connect();
      failing = true;
      for (const op of [0, 1, 2, 3, 6]) front.put({ op, inner: 1, segments: wholePages(front, op === 6 ? 20 : 5) });
      await settle(back);
      for (let i = 0; i < 5; i++) expect(front.response(i).status).toBe(ERROR);
      expect(await isUntouched(front.memory)).toBe(true);
      failing = false;
      await back.close();
      expect(front.dom0.foreign.mapped).toBe(0);
    }
  });
});
