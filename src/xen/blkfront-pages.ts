/** The memory of one slot of the frontend's ring: contiguous data pages, and behind them a page of segments. */
import { BLKIF_MAX_SEGMENTS_PER_REQUEST } from "./blkif/layout.js";
import { type GrantTable, type OwnPages, PAGE_SIZE } from "./platform/platform.js";

export interface SlotPages {
  readonly all: OwnPages;
  /** The data pages' bytes, frames and grant references. */
  readonly data: Uint8Array;
  readonly firstFrame: number;
  readonly refs: readonly number[];
  /** The words of the page of segments; undefined where a slot holds all that a request may have. */
  readonly indirect: Int32Array | undefined;
  readonly indirectFrame: number;
  readonly indirectRef: number;
  /** Granted to the backend, all of them writable, from the beginning to the end. */
  readonly persistent: boolean;
}

/**
 * Zeroed pages for requests of up to `segments` segments. `persistentFor`: the domain that gets them granted for good.
 * Throws `NO_SPACE`, with nothing allocated, when memory or grant references are used up.
 */
export function allocateSlotPages(grants: GrantTable, segments: number, persistentFor: number | undefined): SlotPages {
  const hasIndirect = segments > BLKIF_MAX_SEGMENTS_PER_REQUEST;
  const all = grants.allocatePages(segments + (hasIndirect ? 1 : 0));
  const refs: number[] = [];
  try {
    while (refs.length < all.count) refs.push(grants.reserveRef());
  } catch (error) {
    for (const ref of refs) grants.releaseRef(ref);
    grants.freePages(all);
    throw error;
  }
  if (persistentFor !== undefined)
    for (const [i, ref] of refs.entries()) grants.setAccess(ref, persistentFor, all.firstFrame + i, false);
  const { bytes } = all;
  const indirectAt = segments * PAGE_SIZE;
  return {
    all,
    data: bytes.subarray(0, indirectAt),
    firstFrame: all.firstFrame,
    refs,
    indirect: hasIndirect ? new Int32Array(bytes.buffer, bytes.byteOffset + indirectAt, PAGE_SIZE / 4) : undefined,
    indirectFrame: all.firstFrame + segments,
    indirectRef: refs[segments] ?? 0,
    persistent: persistentFor !== undefined,
  };
}

/** Takes the grants back. A page that the backend still maps is leaked on purpose, and its neighbours with it: it must never be used for anything else. */
export function freeSlotPages(grants: GrantTable, { all, refs }: SlotPages): void {
  const revoked = refs.filter((ref) => grants.clearAccess(ref));
  if (revoked.length < refs.length) return;
  for (const ref of refs) grants.releaseRef(ref);
  grants.freePages(all);
}
