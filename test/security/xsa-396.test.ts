/** XSA-396 (CVE-2022-23036 and others): a frontend asked whether a page was still mapped, and used it again although it was. */
import { expect, test } from "vitest";
import { BlkfrontQueue } from "#src/xen/blkfront-queue.js";
import { twoDomains } from "../xen/ring-pair.js";

/** A backend that maps what it is granted and never lets go. */
function clinging(persistent: boolean) {
  const { dom0, guest, pages1 } = twoDomains(1 << 20);
  const queue = new BlkfrontQueue(guest, 0);
  queue.negotiate({ maxSegments: 11, persistent, flush: 3 });
  const ring = dom0.foreign.page(dom0.foreign.map(1, queue.ringRefs[0]!, true));
  const port = dom0.events.bindInterdomain(1, queue.eventChannel);
  const view = new DataView(ring.buffer, ring.byteOffset, 4096);
  return {
    dom0,
    guest,
    queue,
    /** Maps the page of the first request and answers it. */
    answer() {
      const at = 64;
      const op = view.getUint8(at);
      const id = view.getBigUint64(at + 8, true);
      const page = dom0.foreign.page(dom0.foreign.map(1, view.getUint32(at + 24, true), true));
      view.setBigUint64(at, id, true);
      view.setUint8(at + 8, op);
      view.setInt16(at + 10, 0, true);
      view.setUint32(8, 1, true);
      dom0.events.notify(port);
      guest.vcpu.dispatch();
      return page;
    },
    /** Writes all that the guest can still allocate; gives the frames. */
    fillMemory() {
      const frames: number[] = [];
      for (;;)
        try {
          const pages = guest.grants.allocatePages(1);
          pages.bytes.fill(0x5e);
          frames.push(pages.firstFrame);
        } catch {
          return frames;
        }
    },
    frameOf: (page: Uint8Array) => page.byteOffset / 4096,
    granted: () => new Int32Array(pages1.grantTable).filter((word, i) => i % 2 === 0 && word !== 0).length,
    ring,
  };
}

test.each([false, true])(
  "persistent %s: pages that it keeps mapped are never used for anything else",
  async (persistent) => {
    const backend = clinging(persistent);
    const reading = backend.queue.read(0, new Uint8Array(4096));
    await null;
    const page = backend.answer();
    // A page that is granted for good may stay mapped; one that was granted for the request may not.
    if (persistent) await reading;
    else await expect(reading).rejects.toMatchObject({ code: "PROTOCOL" });
    backend.queue.close("closed by the test");
    const frames = backend.fillMemory();
    expect(frames.length).toBeGreaterThan(100);
    for (const kept of [page, backend.ring]) {
      expect(frames).not.toContain(backend.frameOf(kept));
      expect(kept.includes(0x5e)).toBe(false);
    }
    expect(backend.granted()).toBeGreaterThanOrEqual(2);
  },
);

test("a backend that lets go in time: all pages and references come back", async () => {
  const { guest, pages1 } = twoDomains(1 << 20);
  const before = guest.grants.allocatePages(200);
  guest.grants.freePages(before);
  for (let i = 0; i < 50; i++) {
    const queue = new BlkfrontQueue(guest, 0, 4);
    queue.negotiate({ maxSegments: 32, persistent: true, flush: 3 });
    queue.close("closed by the test");
  }
  expect(guest.grants.allocatePages(200).firstFrame).toBe(before.firstFrame);
  expect(new Int32Array(pages1.grantTable).filter((word, i) => i % 2 === 0 && word !== 0)).toHaveLength(0);
});
