/** XSA-403 (CVE-2022-26365, CVE-2022-33742): granted pages showed the backend what the guest's memory had held before. */
import { expect, test } from "vitest";
import { BlkfrontQueue } from "#src/xen/blkfront-queue.js";
import { twoDomains } from "../xen/ring-pair.js";

test.each([
  [11, false],
  [32, false],
  [32, true],
] as const)(
  "requests of %i segments, persistent %s: the backend sees what was written to it, and zeros",
  async (maxSegments, persistent) => {
    const { dom0, guest, pages1 } = twoDomains();
    const secrets = guest.grants.allocatePages((8 << 8) - 3);
    secrets.bytes.fill(0x5e);
    guest.grants.freePages(secrets);
    const queue = new BlkfrontQueue(guest, 0, 2);
    queue.negotiate({ maxSegments, persistent, flush: 3 });
    // Short of a page, in the last page of a request, and many at once so that many slots are used.
    const lengths = [512, 1536, 4096 * 3 + 512, maxSegments * 4096 - 512, 4096 * 12];
    for (let i = 0; i < 20; i++)
      for (const length of lengths) queue.write(0, new Uint8Array(length).fill(0x33)).catch(() => {});
    await null;
    let seen = 0;
    for (let ref = 8; ref < 32768; ref++) {
      if (new Int32Array(pages1.grantTable)[ref * 2] === 0) continue;
      const handle = dom0.foreign.map(1, ref, false);
      if (handle < 0) continue;
      seen++;
      expect(Buffer.from(dom0.foreign.page(handle)).includes(Buffer.of(0x5e, 0x5e, 0x5e, 0x5e))).toBe(false);
      dom0.foreign.unmap(handle);
    }
    expect(seen).toBeGreaterThan(100);
    queue.close("closed by the test");
  },
);
