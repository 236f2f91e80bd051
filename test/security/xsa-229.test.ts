/** XSA-229 (CVE-2017-12134): segments that follow each other were merged though their pages were no neighbours. */
import { expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { OKAY, rawFrontend, verdict } from "../xen/raw-frontend.js";

// Orders of pages and parts of pages; in each some neighbours in the request are no neighbours in memory, or overlap there.
const ORDERS: [string, { page: number; first?: number; last?: number }[]][] = [
  ["backwards", [9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map((page) => ({ page }))],
  ["with gaps", [0, 2, 4, 6, 8, 10].map((page) => ({ page }))],
  ["the same page twice", [3, 3, 3].map((page) => ({ page }))],
  ["ends that do not touch the next page", [0, 1, 2].map((page) => ({ page, first: 0, last: 6 }))],
  ["starts after the page's start", [0, 1, 2].map((page) => ({ page, first: 1, last: 7 }))],
  [
    "one page in parts, out of order",
    [
      { page: 5, first: 4, last: 7 },
      { page: 5, first: 0, last: 3 },
    ],
  ],
  ["neighbours, then a jump", [{ page: 1 }, { page: 2 }, { page: 20 }, { page: 21 }]],
];

test.each(
  ORDERS.flatMap(([what, order]) =>
    [1, 6].flatMap((op) => [false, true].map((persistent) => ({ what, order, op, persistent }))),
  ),
)("$what, operation $op, persistent $persistent", async ({ order, op, persistent }) => {
  const memory = memoryDevice(1 << 20);
  const front = rawFrontend({ device: memory, persistent });
  const back = front.connect();
  const { bytes } = front.data;
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i >> 9) * 31; // each sector of each page is another
  const before = Buffer.from(bytes);
  const segments = order.map(({ page, first = 0, last = 7 }) => ({ gref: front.granted(page), first, last }));
  const expected = Buffer.concat(
    order.map(({ page, first = 0, last = 7 }) =>
      before.subarray(page * 4096 + first * 512, page * 4096 + (last + 1) * 512),
    ),
  );
  expect(await verdict(front, back, { op, inner: 1, segments, sector: 3n })).toBe(OKAY);
  const written = Buffer.alloc(expected.length + 1024);
  await memory.read(512 * 2, written);
  expect(written.subarray(512, -512).equals(expected)).toBe(true);
  expect(written.subarray(0, 512).equals(Buffer.alloc(512))).toBe(true);
  expect(written.subarray(-512).equals(Buffer.alloc(512))).toBe(true);

  // Read 0xaa over it: exactly the sectors that the segments name change.
  await memory.write(512 * 3, Buffer.alloc(expected.length, 0xaa));
  expect(await verdict(front, back, { op: op === 1 ? 0 : 6, inner: 0, segments, sector: 3n })).toBe(OKAY);
  const model = Buffer.from(before);
  for (const { page, first = 0, last = 7 } of order)
    model.fill(0xaa, page * 4096 + first * 512, page * 4096 + (last + 1) * 512);
  expect(Buffer.from(bytes).equals(model)).toBe(true);
  await back.close();
});
