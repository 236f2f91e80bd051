/**
 * How long requests took, as counts in buckets that are log-linear like HdrHistogram's: sixteen to each power of two, so that
 * a value is known to 6 %, from an eighth of a microsecond to four minutes. Recording is an index and an addition.
 * Bounds that are powers of two of a microsecond are bounds of buckets.
 */

const UNITS_PER_US = 8;
/** Longer ones count as this. */
const MAX_UNITS = 2 ** 31 - 1;
/** Buckets of each power of two, and their logarithm. */
const STEPS = 16;
const STEP_BITS = 4;
const BUCKETS = STEPS * (32 - STEP_BITS);

/** A histogram as plain data. Microseconds. */
export interface LatencyCounts {
  readonly count: number;
  /** Of all values. */
  readonly sum: number;
  /** Upper bound (exclusive) and count of each bucket that is not empty, ascending. */
  readonly buckets: readonly (readonly [upTo: number, count: number])[];
}

export const NO_LATENCY: LatencyCounts = { count: 0, sum: 0, buckets: [] };

export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  #sum = 0;

  /** `us`: microseconds, 0 or more. */
  record(us: number): void {
    this.#sum += us;
    this.#counts[bucketOf(us)]!++;
  }

  get counts(): LatencyCounts {
    const buckets: [number, number][] = [];
    let count = 0;
    for (const [i, value] of this.#counts.entries()) {
      if (value === 0) continue;
      count += value;
      buckets.push([lowerBound(i + 1), value]);
    }
    return { count, sum: this.#sum, buckets };
  }
}

export function mergeLatency(parts: readonly LatencyCounts[]): LatencyCounts {
  const merged = new Map<number, number>();
  for (const { buckets } of parts)
    for (const [upTo, count] of buckets) merged.set(upTo, (merged.get(upTo) ?? 0) + count);
  return {
    count: parts.reduce((total, { count }) => total + count, 0),
    sum: parts.reduce((total, { sum }) => total + sum, 0),
    buckets: [...merged].sort(([a], [b]) => a - b),
  };
}

/** What was counted since `before`; all of it when the histogram was begun anew meanwhile. */
export function latencySince(now: LatencyCounts, before: LatencyCounts): LatencyCounts {
  const [past, present] = [new Map(before.buckets), new Map(now.buckets)];
  if (before.buckets.some(([upTo, count]) => (present.get(upTo) ?? 0) < count)) return now;
  const buckets = now.buckets.map(([upTo, count]) => [upTo, count - (past.get(upTo) ?? 0)] as const);
  return {
    count: now.count - before.count,
    sum: Math.max(0, now.sum - before.sum),
    buckets: buckets.filter(([, count]) => count > 0),
  };
}

/** Microseconds that `part` (0 to 1) of the values stay below; null when there are none. */
export function percentile({ count, buckets }: LatencyCounts, part: number): number | null {
  let left = Math.max(1, Math.ceil(count * part));
  for (const [upTo, inBucket] of buckets) {
    left -= inBucket;
    if (left <= 0) return upTo;
  }
  return null;
}

/** How many values are below `us`, which is the bound of a bucket. */
export function countBelow({ buckets }: LatencyCounts, us: number): number {
  let total = 0;
  for (const [upTo, count] of buckets) if (upTo <= us) total += count;
  return total;
}

function bucketOf(us: number): number {
  const units = Math.min(us * UNITS_PER_US, MAX_UNITS) | 0;
  if (units < STEPS) return units;
  const power = 31 - Math.clz32(units) - STEP_BITS;
  return power * STEPS + (units >>> power);
}

/** Microseconds. */
function lowerBound(bucket: number): number {
  if (bucket < STEPS) return bucket / UNITS_PER_US;
  const power = Math.floor(bucket / STEPS) - 1;
  return ((bucket - power * STEPS) * 2 ** power) / UNITS_PER_US;
}
