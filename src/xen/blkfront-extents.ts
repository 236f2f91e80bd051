/**
 * What of a guest's disk is stored. blkif has no request for that; the platform may tell it beside the protocol. What it
 * tells is a hint: where it does not know, is late or contradicts itself, everything is data, which is always true.
 */
import type { Extent } from "../block/device.js";

/** A run that begins where the one before it ends. */
export interface StoredRun {
  readonly length: number; // bytes, above 0
  /** As in `Extent`. */
  readonly data: boolean;
  readonly zero: boolean;
}

/** The runs from `offset` on; they may end before the range does. Null: nobody knows. */
export type StoredRuns = (offset: number, length: number) => Promise<readonly StoredRun[] | null>;

/**
 * The runs of a range that is not empty, whole blocks each. `changes` counts the writes that have ended: runs that were
 * told before a write ended are told again, so that what somebody wrote and then looks at is no hole.
 */
export async function* frontendExtents(
  stored: StoredRuns,
  changes: () => number,
  blockSize: number,
  range: { readonly offset: number; readonly length: number },
): AsyncGenerator<Extent> {
  const end = range.offset + range.length;
  for (let at = range.offset; at < end; ) {
    const asked = changes();
    const runs = (await answer(stored, blockSize, at, end - at)) ?? [{ length: end - at, data: true, zero: false }];
    for (const [i, { length, data, zero }] of runs.entries()) {
      if (i > 0 && changes() !== asked) break;
      yield { offset: at, length, data, zero, present: true, depth: 0, hostOffset: null };
      at += length;
    }
  }
}

/** Null when there is no answer, or none that can be true. */
async function answer(
  stored: StoredRuns,
  blockSize: number,
  offset: number,
  length: number,
): Promise<readonly StoredRun[] | null> {
  const told: unknown = await stored(offset, length).catch(() => null);
  if (!Array.isArray(told) || told.length === 0) return null;
  let left = length;
  for (const run of told as (Partial<StoredRun> | null)[]) {
    const runLength = run?.length;
    if (!Number.isSafeInteger(runLength) || runLength! <= 0 || runLength! % blockSize !== 0) return null;
    if (typeof run!.data !== "boolean" || typeof run!.zero !== "boolean" || (!run!.data && !run!.zero)) return null;
    left -= runLength!;
    if (left < 0) return null;
  }
  return told as StoredRun[];
}
