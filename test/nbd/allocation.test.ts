import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RunList } from "#src/nbd/allocation.js";
import { Coverage } from "#src/nbd/coverage.js";

describe("RunList", () => {
  test("joins neighbours and stops at its limit", () => {
    const list = new RunList(1024, 512, 2);
    expect(list.add(512, 3)).toBe(true);
    expect(list.add(512, 3)).toBe(true);
    expect(list.add(1024, 0)).toBe(true);
    expect(list.add(512, 3)).toBe(false);
    expect(list.runs).toEqual([
      { offset: 1024, length: 1024, status: 3 },
      { offset: 2048, length: 1024, status: 0 },
    ]);
  });

  test("a block has the flags that hold for all of its bytes", () => {
    const run = fc.record({ length: fc.integer({ min: 1, max: 40 }), status: fc.integer({ min: 0, max: 3 }) });
    fc.assert(
      fc.property(fc.constantFrom(1, 4, 16), fc.nat(5), fc.array(run), (blockSize, startBlock, runs) => {
        const start = startBlock * blockSize;
        const list = new RunList(start, blockSize, Number.POSITIVE_INFINITY);
        for (const { length, status } of runs) list.add(length, status);

        const bytes = runs.flatMap(({ length, status }) => Array<number>(length).fill(status));
        const blocks = Array.from({ length: Math.floor(bytes.length / blockSize) }, (_, i) =>
          bytes.slice(i * blockSize, (i + 1) * blockSize).reduce((a, b) => a & b),
        );
        expect(list.runs.flatMap(({ length, status }) => Array<number>(length / blockSize).fill(status))).toEqual(
          blocks,
        );
        expect(
          list.runs.every(
            ({ offset }, i) => offset === (i === 0 ? start : list.runs[i - 1]!.offset + list.runs[i - 1]!.length),
          ),
        ).toBe(true);
        expect(list.runs.every(({ status }, i) => i === 0 || list.runs[i - 1]!.status !== status)).toBe(true);
      }),
    );
  });
});

describe("Coverage", () => {
  test("counts every byte once, in any order, and refuses the second time", () => {
    const piece = fc.record({ start: fc.nat(60), length: fc.integer({ min: 1, max: 12 }) });
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const coverage = new Coverage();
        const seen = new Set<number>();
        for (const { start, length } of pieces) {
          const bytes = Array.from({ length }, (_, i) => start + i);
          const fresh = !bytes.some((byte) => seen.has(byte));
          expect(coverage.add(start, start + length)).toBe(fresh);
          if (!fresh) return;
          for (const byte of bytes) seen.add(byte);
          expect(coverage.covered).toBe(seen.size);
        }
      }),
    );
  });

  test("gives up on a reply of endless crumbs", () => {
    const coverage = new Coverage();
    let taken = 0;
    while (taken < 100_000 && coverage.add(2 * taken, 2 * taken + 1)) taken++;
    expect(taken).toBeLessThan(10_000);
  });
});
