/** A guest that asks what of its disk is stored: true answers are used, all others mean that everything is data. */
import { expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { type FrontendFacts, frontendDevice } from "#src/xen/blkfront-device.js";
import type { StoredRun, StoredRuns } from "#src/xen/blkfront-extents.js";

const SIZE = 1 << 20;
const HOLE = { data: false, zero: true };
const DATA = { data: true, zero: false };
const ZEROS = { data: true, zero: true };

/** A disk that does what it is asked, and whose platform tells what `stored` says. */
function disk(stored?: StoredRuns, sectorSize = 512) {
  const done = async () => {};
  const facts: FrontendFacts = { sectors: SIZE / 512, sectorSize, info: 0, canDiscard: true };
  return frontendDevice(51712, { read: done, write: done, flush: done, discard: done }, facts, stored);
}

function kind({ data, zero }: Pick<StoredRun, "data" | "zero">): string {
  if (!zero) return "data";
  return data ? "zeros" : "hole";
}

/** Lengths and kinds, and that nothing is missing between them. */
async function map(device: BlockDevice, offset = 0, length = SIZE - offset) {
  const runs: [number, string][] = [];
  let end = offset;
  for await (const extent of device.extents(offset, length)) {
    expect(extent.offset).toBe(end);
    end += extent.length;
    runs.push([extent.length, kind(extent)]);
  }
  expect(end).toBe(offset + length);
  return runs;
}

test("without anybody to ask, all is data", async () => {
  expect(await map(disk())).toEqual([[SIZE, "data"]]);
});

test("an answer that ends before the range does is continued where it ends", async () => {
  const asked: number[][] = [];
  const device = disk(async (offset, length) => {
    asked.push([offset, length]);
    return offset === 4096
      ? [
          { length: 512, ...HOLE },
          { length: 1024, ...DATA },
        ]
      : [{ length, ...ZEROS }];
  });
  expect(await map(device, 4096, 8192)).toEqual([
    [512, "hole"],
    [1024, "data"],
    [6656, "zeros"],
  ]);
  expect(asked).toEqual([
    [4096, 8192],
    [5632, 6656],
  ]);
});

test.each<[string, unknown]>([
  ["null", null],
  ["none", []],
  ["no list", { length: 512, ...HOLE }],
  ["no run", [null]],
  ["a length of 0", [{ length: 0, ...HOLE }]],
  ["a negative length", [{ length: -512, ...HOLE }]],
  ["a length that is no number", [{ length: "512", ...HOLE }]],
  ["an endless run", [{ length: Number.POSITIVE_INFINITY, ...HOLE }]],
  ["part of a sector", [{ length: 513, ...HOLE }]],
  ["more than was asked for", [{ length: SIZE + 512, ...HOLE }]],
  [
    "more than was asked for, in the second run",
    [
      { length: SIZE, ...HOLE },
      { length: 512, ...DATA },
    ],
  ],
  ["neither stored nor zeros", [{ length: 512, data: false, zero: false }]],
  ["flags that are none", [{ length: 512, data: 0, zero: 1 }]],
])("an answer that cannot be true: %s", async (_what, answer) => {
  expect(await map(disk(async () => answer as StoredRun[]))).toEqual([[SIZE, "data"]]);
});

test("a failure in the middle: what was told is used, the rest is data", async () => {
  const device = disk(async (offset) => {
    if (offset > 0) throw new Error("the backend has gone");
    return [{ length: 4096, ...HOLE }];
  });
  expect(await map(device)).toEqual([
    [4096, "hole"],
    [SIZE - 4096, "data"],
  ]);
});

test("whole sectors of 4096 bytes, or nothing", async () => {
  expect(await map(disk(async () => [{ length: 512, ...HOLE }], 4096))).toEqual([[SIZE, "data"]]);
});

test.each<[string, (device: BlockDevice) => Promise<void>]>([
  ["a write", (device) => device.write(8192, new Uint8Array(4096))],
  ["zeros", (device) => device.zero(8192, 4096)],
])("after %s was acknowledged, runs that were told before are not used", async (_what, change) => {
  let stored = false;
  let asked = 0;
  const device = disk(async (offset, length) => {
    asked++;
    const holeThenRest = [
      { length: 8192, ...HOLE },
      { length: SIZE - 8192, ...(stored ? DATA : HOLE) },
    ];
    return offset === 0 ? holeThenRest : [{ length, ...(stored ? DATA : HOLE) }];
  });
  const runs: string[] = [];
  for await (const extent of device.extents(0, SIZE)) {
    runs.push(kind(extent));
    if (runs.length > 1) continue;
    stored = true;
    await change(device);
  }
  expect([runs, asked]).toEqual([["hole", "data"], 2]);
});
