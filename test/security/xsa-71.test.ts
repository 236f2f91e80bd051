/** XSA-71 (CVE-2013-4375): a request that failed in one of its grants kept the others mapped. */
import { describe, expect, test } from "vitest";
import { ERROR, isUntouched, OKAY, rawFrontend, verdict, wholePages } from "../xen/raw-frontend.js";

describe.each([
  ["mapped for each request", false],
  ["kept", true],
] as const)("grants %s", (_kind, persistent) => {
  test.each([
    ["direct", 1, 11],
    ["indirect", 6, 256],
  ] as const)("a bad grant at each position of a %s request", async (_what, op, count) => {
    const front = rawFrontend({ persistent });
    const back = front.connect();
    front.data.bytes.fill(0xff);
    const good = wholePages(front, count);
    for (let bad = 0; bad < count; bad++) {
      const segments = good.with(bad, { gref: 20_000, first: 0, last: 7 });
      // `verdict` compares what is mapped with what was mapped before.
      expect(await verdict(front, back, { op, inner: 1, segments })).toBe(ERROR);
    }
    expect(await isUntouched(front.memory)).toBe(true);
    expect(back.grants.kept).toBe(persistent ? count + (op === 6 ? 1 : 0) - 1 : 0);
    expect(await verdict(front, back, { op, inner: 1, segments: good })).toBe(OKAY);
    await back.close();
    expect(front.dom0.foreign.mapped).toBe(0);
    for (const { gref } of good) expect(front.guest.grants.endAccess(gref)).toBe(true);
  });
});
