/** XSA-403 (CVE-2022-26365, CVE-2022-33742): granted pages showed the backend what the guest's memory had held before. */
import { describe, expect, test } from "vitest";
import { BlkfrontQueue } from "#src/xen/blkfront-queue.js";
import { twoDomains } from "../xen/ring-pair.js";
import { FRONTEND, splitHost } from "../xen/split-host.js";

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

describe("a vbd with trusted=0", () => {
  const SECRET = Buffer.alloc(64, "private!");

  /** A backend that keeps what it once could map, and looks at whole pages. */
  async function spiedOn(persistent: boolean, trusted: boolean, maxSegments: number) {
    const { dom0, guest, pages1 } = twoDomains();
    const queue = new BlkfrontQueue(guest, 0);
    queue.negotiate({ maxSegments, persistent, flush: 3, trusted });
    const ring = dom0.foreign.page(dom0.foreign.map(1, queue.ringRefs[0]!, true));
    const port = dom0.events.bindInterdomain(1, queue.eventChannel);
    const view = new DataView(ring.buffer, ring.byteOffset, 4096);
    const handles: number[] = [];
    let answered = 0;
    return {
      queue,
      /** Every byte that is granted now, but the ring. */
      look() {
        const seen: Buffer[] = [];
        for (let ref = 8; ref < 1000; ref++) {
          if (queue.ringRefs.includes(ref) || new Int32Array(pages1.grantTable)[ref * 2] === 0) continue;
          const handle = dom0.foreign.map(1, ref, false);
          if (handle < 0) continue;
          seen.push(Buffer.from(dom0.foreign.page(handle)));
          if (persistent) handles.push(handle);
          else dom0.foreign.unmap(handle);
        }
        return Buffer.concat(seen);
      },
      /** What it mapped and kept. */
      lookAgain: () => Buffer.concat(handles.map((handle) => Buffer.from(dom0.foreign.page(handle)))),
      answer() {
        for (const end = view.getUint32(0, true); answered !== end; answered++) {
          const at = 64 + (answered & 31) * 112;
          const op = view.getUint8(at) === 6 ? view.getUint8(at + 1) : view.getUint8(at);
          const id = view.getBigUint64(at + 8, true);
          view.setBigUint64(at, id, true);
          view.setUint8(at + 8, op);
          view.setInt16(at + 10, 0, true);
        }
        view.setUint32(8, answered, true);
        dom0.events.notify(port);
        guest.vcpu.dispatch();
      },
    };
  }

  test.each([
    [false, 11],
    [true, 11],
    [false, 32],
    [true, 32],
  ])("persistent %s, %i segments: pages hold the data of the request at hand and zeros", async (persistent, max) => {
    const spy = await spiedOn(persistent, false, max);
    for (const length of [4096 * max, 4096 * 3, 4096, 1536]) {
      const secret = spy.queue.write(0, Buffer.alloc(length, SECRET));
      await null;
      expect(spy.look().includes(SECRET)).toBe(true); // that one is meant for it
      spy.answer();
      await secret;
      expect(spy.look().includes(SECRET)).toBe(false);
      expect(spy.lookAgain().includes(SECRET)).toBe(false);
      const small = spy.queue.write(0, new Uint8Array(512).fill(0x33));
      const read = spy.queue.read(0, new Uint8Array(4096 * max));
      await null;
      const seen = spy.look();
      expect(seen.filter((byte) => byte === 0x33)).toHaveLength(512);
      expect(seen.includes("priv")).toBe(false);
      spy.answer();
      await Promise.all([small, read]);
    }
    spy.queue.close("closed by the test");
  });

  test("a trusted backend may see what it was given before: that saves clearing the pages", async () => {
    const spy = await spiedOn(true, true, 11);
    const secret = spy.queue.write(0, Buffer.alloc(4096, SECRET));
    await null;
    spy.answer();
    await secret;
    expect(spy.look().includes(SECRET)).toBe(true);
  });

  test("the toolstack's key reaches the driver: after I/O nothing of the data is left in the guest's granted pages", async () => {
    for (const trusted of [false, true]) {
      const host = await splitHost();
      await host.startBlkback();
      await host.startBlkfront();
      const device = host.next();
      await host.attach({ trusted });
      expect(await host.store.read(`${FRONTEND}/trusted`)).toBe(trusted ? "1" : "0");
      const disk = await device;
      await disk.write(0, Buffer.alloc(300_032, SECRET));
      await disk.read(0, Buffer.alloc(65_536));
      expect(Buffer.from(host.pages1.memory).includes(SECRET)).toBe(trusted);
      await host.detach();
      await host.stop();
    }
  });
});
