/** Suspend and resume of a frontend's disks: what had no answer is asked again, once, in its order, before anything new. */
import { randomBytes } from "node:crypto";
import { afterEach, describe, expect, test } from "vitest";
import { BlkfrontIo } from "#src/xen/blkfront-io.js";
import { BlkfrontQueue } from "#src/xen/blkfront-queue.js";
import { BlkfrontRings } from "#src/xen/blkfront-rings.js";
import { BACKEND_OFFERS, FRONTEND_WISHES } from "#src/xen/blkif/features.js";
import { twoDomains } from "./ring-pair.js";
import { BACKEND, FRONTEND, splitHost } from "./split-host.js";

const WRITE = 1;
const PAGE = 4096;

/** A backend by hand: sees what is asked, answers what it is told to, and tells the frontend nothing. */
function rawBackend(maxSegments = 32) {
  const { dom0, guest } = twoDomains(32 << 20);
  const open = (segments = maxSegments, how: 2 | 3 | "none" = 3) => {
    const queue = new BlkfrontQueue(guest, 0);
    queue.negotiate({ maxSegments: segments, persistent: false, flush: how === "none" ? undefined : how });
    const handle = dom0.foreign.map(1, queue.ringRefs[0]!, true);
    const ring = dom0.foreign.page(handle);
    const view = new DataView(ring.buffer, ring.byteOffset, PAGE);
    let produced = 0;
    const slot = (index: number) => 64 + (index & 31) * 112;
    return {
      queue,
      asked: () => view.getUint32(0, true),
      request: (index: number) => ({
        id: view.getUint32(slot(index) + 8, true),
        operation: view.getUint8(slot(index)) === 6 ? view.getUint8(slot(index) + 1) : view.getUint8(slot(index)),
        sector: view.getUint32(slot(index) + 16, true),
        isIndirect: view.getUint8(slot(index)) === 6,
      }),
      answer(index: number, status = 0) {
        const { id, operation } = this.request(index);
        const at = slot(produced);
        view.setUint32(at, id, true);
        view.setUint32(at + 4, 0, true);
        view.setUint8(at + 8, operation);
        view.setInt16(at + 10, status, true);
        view.setUint32(8, ++produced, true);
      },
      letGo: () => dom0.foreign.unmap(handle),
    };
  };
  return { dom0, guest, open };
}

const settled = (promise: Promise<unknown>) =>
  Promise.race([promise.then(() => "done"), new Promise((resolve) => setImmediate(() => resolve("pending")))]);

describe("one ring", () => {
  test("an answer that was in the ring and not seen yet counts: that request is not asked again", async () => {
    const { open } = rawBackend();
    const old = open();
    const writes = [0, 1, 2].map((i) => old.queue.write(i * PAGE, Buffer.alloc(PAGE, i)));
    await null;
    old.answer(1);
    old.queue.hold();
    old.letGo();
    const left = old.queue.leave("suspended");
    await writes[1];
    expect(left.map(({ offset }) => offset)).toEqual([0, 2 * PAGE]);
    const next = open();
    next.queue.requeue(left);
    const later = next.queue.write(9 * PAGE, Buffer.alloc(PAGE));
    await null;
    expect([0, 1, 2].map((i) => next.request(i).sector)).toEqual([0, 16, 72]);
    for (const i of [0, 1, 2]) next.answer(i);
    next.letGo();
    next.queue.leave("over");
    await Promise.all([...writes, later]);
  });

  test("an operation of which half was answered: only its other half is asked again, split as the new backend can", async () => {
    const { open } = rawBackend(32);
    const old = open();
    const size = 64 * PAGE; // two requests of 32 segments
    const write = old.queue.write(0, Buffer.alloc(size, 5));
    await null;
    expect(old.asked()).toBe(2);
    expect(old.request(0).isIndirect).toBe(true);
    old.answer(0);
    old.queue.hold();
    old.letGo();
    const left = old.queue.leave("suspended");
    expect(left.map(({ offset, length }) => [offset, length])).toEqual([[32 * PAGE, 32 * PAGE]]);
    const next = open(11);
    next.queue.requeue(left);
    await null;
    expect(next.asked()).toBe(3); // 11 + 11 + 10 pages
    expect([0, 1, 2].map((i) => next.request(i).sector / 8)).toEqual([32, 43, 54]);
    for (const i of [0, 1]) next.answer(i);
    expect(await settled(write)).toBe("pending");
    next.answer(2);
    next.letGo();
    next.queue.leave("over");
    await write;
  });

  test("a read that was to be lent, split by the new backend: lent in one piece", async () => {
    const { open } = rawBackend(32);
    const old = open();
    const lent: number[] = [];
    const read = old.queue.lend(0, 12 * PAGE, (bytes) => lent.push(bytes.length))!;
    await null;
    old.queue.hold();
    old.letGo();
    const next = open(11);
    next.queue.requeue(old.queue.leave("suspended"));
    await null;
    expect([0, 1].map((i) => next.request(i).sector / 8)).toEqual([0, 11]);
    next.answer(0);
    expect([await settled(read), lent]).toEqual(["pending", []]);
    next.answer(1);
    next.letGo();
    next.queue.leave("over");
    await read;
    expect(lent).toEqual([12 * PAGE]);
  });

  test("a half that failed before fails the operation, whatever becomes of the other", async () => {
    const { open } = rawBackend(11);
    const old = open();
    const write = old.queue.write(0, Buffer.alloc(22 * PAGE));
    write.catch(() => {});
    await null;
    old.answer(0, -1);
    old.letGo();
    old.queue.hold();
    const next = open(11);
    next.queue.requeue(old.queue.leave("suspended"));
    await null;
    next.answer(0);
    next.letGo();
    next.queue.leave("over");
    await expect(write).rejects.toMatchObject({ code: "IO" });
  });

  test.each<[string, 2 | 3 | "none", number]>([
    ["keeps nothing back: the flush is done", "none", 0],
    ["knows barriers only: it is asked as one", 2, 1],
    ["flushes", 3, 1],
  ])("an unanswered flush, and a new backend that %s", async (_what, how, asked) => {
    const { open } = rawBackend();
    const old = open(11, 3);
    const flush = old.queue.flush();
    await null;
    old.queue.hold();
    old.letGo();
    const next = open(11, how);
    next.queue.requeue(old.queue.leave("suspended"));
    await null;
    expect(next.asked()).toBe(asked);
    if (asked) {
      expect(next.request(0).operation).toBe(how);
      next.answer(0);
    }
    next.letGo();
    next.queue.leave("over");
    await flush;
  });

  test("more than the ring holds keeps its order over slots and queue", async () => {
    const { open } = rawBackend();
    const old = open();
    const writes = Array.from({ length: 70 }, (_, i) => old.queue.write(i * PAGE, Buffer.alloc(PAGE)));
    await null;
    for (const i of [3, 30, 7]) old.answer(i);
    old.queue.hold();
    old.letGo();
    const left = old.queue.leave("suspended");
    const expected = Array.from({ length: 70 }, (_, i) => i).filter((i) => ![3, 30, 7].includes(i));
    expect(left.map(({ offset }) => offset / PAGE)).toEqual(expected);
    const next = open();
    next.queue.requeue(left);
    for (const write of writes) write.catch(() => {});
    next.letGo();
    expect(next.queue.leave("again").map(({ offset }) => offset / PAGE)).toEqual(expected);
  });

  test("a lie in the last answers disables the device: nothing of it is asked again", async () => {
    const { open } = rawBackend();
    const old = open();
    const write = old.queue.write(0, Buffer.alloc(PAGE));
    write.catch(() => {});
    await null;
    expect(old.request(0).operation).toBe(WRITE);
    old.answer(0);
    old.answer(0); // twice
    old.queue.hold();
    old.letGo();
    expect(old.queue.leave("suspended")).toEqual([]);
    await expect(write).rejects.toMatchObject({ code: "PROTOCOL" });
    expect(old.queue.failure).toMatchObject({ code: "PROTOCOL" });
  });
});

describe("a disk whose domain has moved", () => {
  test("unanswered reads are asked there, changes end as they ended there, and what waited goes there too", async () => {
    const { guest } = rawBackend();
    const rings = new BlkfrontRings(guest, 0);
    rings.negotiate();
    const io = new BlkfrontIo(rings);
    const into = Buffer.alloc(PAGE);
    const read = io.read(PAGE, into);
    const lent: Buffer[] = [];
    const lending = io.lend(PAGE, PAGE, (bytes) => lent.push(Buffer.from(bytes)))!;
    const good = io.write(0, Buffer.alloc(PAGE, 7));
    const bad = io.discard(8 * PAGE, PAGE);
    bad.catch(() => {});
    await null;
    io.hold();
    rings.hold();
    io.unanswered = rings.leave("suspended");
    const late = io.write(2 * PAGE, Buffer.alloc(PAGE));
    expect(io.outstanding()).toEqual([
      { kind: "write", offset: 0, data: new Uint8Array(Buffer.alloc(PAGE, 7)) },
      { kind: "discard", offset: 8 * PAGE, length: PAGE },
    ]);
    const calls: string[] = [];
    io.moveTo(
      {
        read: async (offset, data) => {
          calls.push(`read ${offset}`);
          data.fill(9);
        },
        write: async (offset) => void calls.push(`write ${offset}`),
        flush: async () => {},
        discard: async () => {},
      },
      [null, "it failed"],
    );
    await Promise.all([read, lending, good, late]);
    expect(lent).toEqual([Buffer.alloc(PAGE, 9)]);
    await expect(bad).rejects.toMatchObject({ code: "IO" });
    expect(calls).toEqual([`read ${PAGE}`, `read ${PAGE}`, `write ${2 * PAGE}`]);
    expect(into.every((byte) => byte === 9)).toBe(true);
  });
});

describe("through xenbus", () => {
  let host: Awaited<ReturnType<typeof splitHost>>;
  afterEach(() => host.stop());

  test.each([
    ["the same backend", BACKEND_OFFERS],
    [
      "one with one queue, one page, 11 segments and no persistent grants",
      { maxRingPageOrder: 0, maxQueues: 1, maxIndirectSegments: 0, persistent: false },
    ],
  ])("100 writes across a suspend to %s: each done once, grants balanced", async (_what, after) => {
    host = await splitHost(8 << 20);
    const offers = { ...BACKEND_OFFERS };
    await host.startBlkback(offers);
    const blkfront = await host.startBlkfront({ ...FRONTEND_WISHES, maxQueues: 3, maxRingPageOrder: 1 });
    const connected = host.next();
    await host.attach();
    const device = await connected;
    const before = host.guest.foreign.mapped + host.dom0.foreign.mapped;
    const content = randomBytes(100 * 3 * PAGE);
    const old = host.queues();
    const writes = Array.from({ length: 100 }, (_, i) =>
      device.write(i * 3 * PAGE, content.subarray(i * 3 * PAGE, (i + 1) * 3 * PAGE)),
    );
    const counted = [...old];
    await blkfront.suspend();
    expect(await host.store.read(`${FRONTEND}/state`)).toBe("6");
    expect(await host.store.read(`${BACKEND}/state`)).toBe("6");
    expect(host.dom0.foreign.mapped).toBe(0);
    const waiting = blkfront.outstanding()[0]!.calls.length;
    expect(waiting).toBeGreaterThan(0);
    const late = device.write(0, content.subarray(0, 3 * PAGE));
    const seen = Buffer.alloc(content.length);
    const reading = device.read(0, seen);
    expect(await settled(Promise.all([late, reading]))).toBe("pending");
    Object.assign(offers, after);
    await blkfront.resume();
    await Promise.all([...writes, late, reading]);
    const found = Buffer.alloc(content.length);
    await host.disk.read(0, found);
    expect(found.equals(content)).toBe(true);
    const sectors = [...counted, ...host.queues()].reduce((sum, { statistics }) => sum + statistics.wr_sect, 0);
    expect(sectors).toBe((content.length + 3 * PAGE) / 512); // none twice, none missing
    expect(host.errors).toEqual([]);
    await host.detach();
    expect(host.guest.foreign.mapped + host.dom0.foreign.mapped).toBeLessThanOrEqual(before);
    expect(host.dom0.foreign.mapped).toBe(0);
  });

  test("a disk that is smaller than it was is not taken", async () => {
    host = await splitHost(8 << 20);
    await host.startBlkback();
    const blkfront = await host.startBlkfront();
    const connected = host.next();
    await host.attach();
    const device = await connected;
    await blkfront.suspend();
    const read = device.read(0, Buffer.alloc(PAGE));
    read.catch(() => {});
    host.resizeTo(4 << 20);
    await blkfront.resume();
    expect(host.errors.join()).toMatch(/it had 8388608/);
    expect(await host.store.read(`${FRONTEND}/state`)).not.toBe("4");
  });

  test("a disk that is detached while its domain is suspended fails what waited for it", async () => {
    host = await splitHost(8 << 20);
    await host.startBlkback();
    const blkfront = await host.startBlkfront();
    const connected = host.next();
    await host.attach();
    const device = await connected;
    await blkfront.suspend();
    const read = device.read(0, Buffer.alloc(PAGE));
    await Promise.all([
      expect(read).rejects.toMatchObject({ code: "IO", message: expect.stringMatching(/detached/) }),
      host.toolstack.detach({ domid: 1, devid: 51712 }, "xvda", { force: true }),
    ]);
    await blkfront.resume();
  });

  test("twice in a row, and a read after each", async () => {
    host = await splitHost(8 << 20);
    await host.startBlkback();
    const blkfront = await host.startBlkfront();
    const connected = host.next();
    await host.attach();
    const device = await connected;
    for (const value of [1, 2, 3]) {
      await device.write(0, Buffer.alloc(PAGE, value));
      await blkfront.suspend();
      await blkfront.resume();
      const found = Buffer.alloc(PAGE);
      await device.read(0, found);
      expect(found.every((byte) => byte === value)).toBe(true);
    }
  });
});
