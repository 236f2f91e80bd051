/** Counts by time: against a plain list of the same values. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  countBelow,
  LatencyHistogram,
  latencySince,
  mergeLatency,
  NO_LATENCY,
  percentile,
} from "#src/xen/latency-histogram.js";

const of = (values: readonly number[]) => {
  const histogram = new LatencyHistogram();
  for (const value of values) histogram.record(value);
  return histogram.counts;
};

/** Microseconds, from less than the unit to more than the range, each decade as likely as the others. */
const microseconds = fc
  .tuple(fc.double({ min: -2, max: 9, noNaN: true }), fc.boolean())
  .map(([power, whole]) => (whole ? Math.round(10 ** power) : 10 ** power));
const values = fc.array(microseconds, { minLength: 1, maxLength: 200 });

/** The longest that is told apart. */
const RANGE_US = 2 ** 31 / 8;

test("a percentile is the value's own bucket: never below it, at most a sixteenth (or an eighth of a microsecond) above", () => {
  fc.assert(
    fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (list, part) => {
      const sorted = [...list].sort((a, b) => a - b);
      const exact = Math.min(sorted[Math.max(0, Math.ceil(part * list.length) - 1)]!, RANGE_US - 1);
      const told = percentile(of(list), part)!;
      expect(told).toBeGreaterThan(exact);
      expect(told).toBeLessThanOrEqual(exact * (1 + 1 / 16) + 1 / 8 + 1e-6);
    }),
  );
});

test("below a power of two of a microsecond: exactly those that are", () => {
  fc.assert(
    fc.property(values, fc.integer({ min: 0, max: 27 }), (list, power) => {
      const bound = 2 ** power;
      expect(countBelow(of(list), bound)).toBe(list.filter((value) => value < bound).length);
    }),
  );
});

test("what was counted since is what was recorded since, and parts merge to the whole", () => {
  fc.assert(
    fc.property(values, values, (first, second) => {
      const both = of([...first, ...second]);
      const since = latencySince(both, of(first));
      expect(since.buckets).toEqual(of(second).buckets);
      expect(since.count).toBe(second.length);
      expect(mergeLatency([of(first), of(second)])).toEqual({ ...both, sum: expect.closeTo(both.sum, 3) });
    }),
  );
});

describe("edges", () => {
  test("nothing, and nothing since", () => {
    expect(percentile(NO_LATENCY, 0.5)).toBeNull();
    expect(latencySince(of([1, 2]), of([1, 2]))).toMatchObject({ count: 0, buckets: [] });
    expect(mergeLatency([])).toEqual(NO_LATENCY);
  });

  test("a histogram that was begun anew counts from its beginning", () => {
    expect(latencySince(of([5]), of([5, 5, 900]))).toEqual(of([5]));
    expect(latencySince(of([5, 5, 5, 5]), of([900]))).toEqual(of([5, 5, 5, 5]));
  });

  test("0 and what is beyond every bucket have one", () => {
    const { count, buckets } = of([0, 1e12, Number.MAX_VALUE]);
    expect(count).toBe(3);
    expect(buckets.map(([, inBucket]) => inBucket)).toEqual([1, 2]);
    expect(buckets[1]![0]).toBe(RANGE_US);
  });
});
