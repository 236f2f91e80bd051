/** The order in which a backend does what its guest asks, and when it answers. */
import { expect, test } from "vitest";
import { defineDevice } from "#src/block/device.js";
import { ABIS } from "#src/xen/blkif/layout.js";
import { BlkifRequest } from "#src/xen/blkif/request.js";
import { OKAY, rawFrontend, settle, wholePages } from "./raw-frontend.js";

const SIZE = 1 << 20;
const turns = async (count = 5) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

/** A disk that logs what is asked of it; each write ends when it is told to. */
function steppedDisk() {
  const log: string[] = [];
  const ends: (() => void)[] = [];
  const device = defineDevice({
    label: "stepped",
    size: SIZE,
    read: async () => {},
    async write(offset) {
      log.push(`write ${offset}`);
      await new Promise<void>((resolve) => ends.push(resolve));
      log.push(`written ${offset}`);
    },
    flush: async () => void log.push("flush"),
  });
  return { device, log, ends };
}

test("a barrier waits for what came before it, and holds back what comes after", async () => {
  const { device, log, ends } = steppedDisk();
  const front = rawFrontend({ device });
  let wakes = 0;
  const back = front.connect(() => wakes++);
  const segments = wholePages(front, 1);
  front.put({ op: 1, segments, sector: 0n, id: 1n });
  front.put({ op: 1, segments, sector: 8n, id: 2n });
  front.put({ op: 2, segments, sector: 16n, id: 3n });
  front.put({ op: 1, segments, sector: 24n, id: 4n });
  back.take();
  await turns();
  expect(log).toEqual(["write 0", "write 4096"]);
  expect(back.take()).toBe(0);
  expect(back.finalCheck()).toBe(false); // or the loop would spin until the disk is done
  ends.pop()!();
  await turns();
  expect(log.slice(2)).toEqual(["written 4096"]);
  ends.pop()!();
  await turns();
  expect(log.slice(3)).toEqual(["written 0", "flush", "write 8192"]);
  expect(back.take()).toBe(0);
  const before = wakes;
  ends.pop()!();
  await turns();
  expect(log.slice(6)).toEqual(["written 8192", "flush"]);
  expect(wakes).toBeGreaterThan(before); // the loop learns that it may take again
  expect(back.take()).toBe(1);
  await turns();
  ends.pop()!();
  await settle(back);
  expect([0, 1, 2, 3].map((index) => front.response(index).id)).toEqual([2n, 1n, 3n, 4n]);
  await back.close();
});

test("a barrier without data flushes; a refused one holds nothing back", async () => {
  const { device, log } = steppedDisk();
  const front = rawFrontend({ device });
  const back = front.connect();
  front.put({ op: 2 });
  front.put({ op: 2, segments: [{ gref: 9999, first: 0, last: 7 }] });
  front.put({ op: 3 });
  await settle(back);
  expect(log).toEqual(["flush", "flush"]);
  expect([0, 1, 2].map((index) => front.response(index).status)).toEqual([OKAY, -1, OKAY]);
  await back.close();
});

test("a flush with data flushes first, then writes", async () => {
  const { device, log, ends } = steppedDisk();
  const front = rawFrontend({ device });
  const back = front.connect();
  front.put({ op: 3, segments: wholePages(front, 1), sector: 8n });
  back.take();
  await turns();
  ends.pop()!();
  await settle(back);
  expect(log).toEqual(["flush", "write 4096", "written 4096"]);
  await back.close();
});

test("one part of a request fails: the others end before the pages are let go and the answer is given", async () => {
  let end!: () => void;
  const device = defineDevice({
    label: "half broken",
    size: SIZE,
    async read(offset, into) {
      if (offset === 0) throw new Error("medium error");
      await new Promise<void>((resolve) => (end = resolve));
      into.fill(0x77);
    },
  });
  const front = rawFrontend({ device });
  const back = front.connect();
  // Two pages that are no neighbours: two transfers.
  front.put({ op: 0, segments: [front.granted(0), front.granted(5)].map((gref) => ({ gref, first: 0, last: 7 })) });
  back.take();
  await turns();
  expect([back.inFlight, front.dom0.foreign.mapped]).toEqual([1, 3]);
  end();
  await settle(back);
  expect(front.response(0)).toMatchObject({ op: 0, status: -1 });
  expect(back.statistics).toMatchObject({ errors: 1, lastError: "medium error" });
  await back.close();
});

test("closing waits for what is under way, answers it, and takes no more", async () => {
  const { device, ends } = steppedDisk();
  const front = rawFrontend({ device, persistent: true });
  const back = front.connect();
  const segments = wholePages(front, 1);
  front.put({ op: 1, segments });
  back.take();
  front.put({ op: 1, segments });
  const closing = back.close();
  await turns();
  expect(back.take()).toBe(0);
  expect(front.dom0.foreign.mapped).toBe(2);
  ends.pop()!();
  await closing;
  expect(front.rspProd()).toBe(1);
  expect(front.dom0.foreign.mapped).toBe(0);
});

test.each(Object.values(ABIS).map((abi) => [abi.protocol, abi] as const))(
  "%s: eight indirect pages of 512 segments, in their order",
  (_name, abi) => {
    const slot = new Int32Array(abi.stride / 4);
    slot[0] = 6 | (1 << 8) | (4095 << 16);
    for (let page = 0; page < 8; page++) slot[abi.indirectGrefsWord + page] = 100 + page;
    const asked: number[] = [];
    const indirect = {
      maxIndirectSegments: 4096,
      readIndirectPage(gref: number, judge: (words: ArrayLike<number>) => boolean) {
        asked.push(gref);
        return judge(Int32Array.from({ length: 1024 }, (_, i) => (i % 2 ? 7 << 8 : gref * 1000 + i / 2)));
      },
    };
    const request = new BlkifRequest();
    const limits = { size: 2 ** 40, sectorSize: 512, writable: true, canDiscard: true };
    expect(request.parse(slot, abi, limits, indirect)).toBe(OKAY);
    expect(asked).toEqual([100, 101, 102, 103, 104, 105, 106, 107]);
    expect([request.operation, request.segments, request.length]).toEqual([1, 4095, 4095 * 4096]);
    expect([request.gref[511], request.gref[512], request.gref[4094]]).toEqual([100511, 101000, 107510]);
  },
);
