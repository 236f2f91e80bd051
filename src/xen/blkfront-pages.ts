/**
 * The memory that a frontend's ring moves data through: contiguous pages for one request, with their grant references.
 * Two sizes, so that small requests do not hold what a large one needs. Made when first needed, used last first, and
 * kept until the ring closes: with persistent grants the backend may have them mapped all that time.
 */
import { BLKIF_MAX_SEGMENTS_PER_REQUEST } from "./blkif/layout.js";
import { type GrantTable, type OwnPages, PAGE_SIZE } from "./platform/platform.js";

export interface RequestPages {
  readonly all: OwnPages;
  /** The data pages' bytes, frames and grant references. */
  readonly data: Uint8Array;
  readonly firstFrame: number;
  readonly refs: readonly number[];
  /** The words of the page of segments behind the data; undefined where a slot holds all segments. */
  readonly indirect: Int32Array | undefined;
  readonly indirectFrame: number;
  readonly indirectRef: number;
}

export class RequestPagesPool {
  readonly #grants: GrantTable;
  readonly #maxSegments: number;
  readonly #persistentFor: number | undefined;
  readonly #made: RequestPages[] = [];
  readonly #small: RequestPages[] = [];
  readonly #large: RequestPages[] = [];

  /**
   * For requests of up to `maxSegments` segments. `persistentFor`: the domain that gets all pages granted, writable, for good.
   * Throws `NO_SPACE` when there is no memory even for one request.
   */
  constructor(grants: GrantTable, maxSegments: number, persistentFor: number | undefined) {
    this.#grants = grants;
    this.#maxSegments = maxSegments;
    this.#persistentFor = persistentFor;
    this.give(this.#allocate(maxSegments));
  }

  /** Pages for a request of that many segments; undefined when memory is used up until others are given back. */
  take(segments: number): RequestPages | undefined {
    if (segments > BLKIF_MAX_SEGMENTS_PER_REQUEST) return this.#large.pop() ?? this.#tryAllocate(this.#maxSegments);
    return this.#small.pop() ?? this.#tryAllocate(BLKIF_MAX_SEGMENTS_PER_REQUEST) ?? this.#large.pop();
  }

  give(pages: RequestPages): void {
    (pages.indirect ? this.#large : this.#small).push(pages);
  }

  /** Takes all grants back. Pages of which the backend still maps one are leaked on purpose: they must never be used for anything else. */
  close(): void {
    for (const { all, refs } of this.#made.splice(0)) {
      const revoked = refs.filter((ref) => this.#grants.clearAccess(ref));
      if (revoked.length < refs.length) continue;
      for (const ref of refs) this.#grants.releaseRef(ref);
      this.#grants.freePages(all);
    }
  }

  #tryAllocate(segments: number): RequestPages | undefined {
    try {
      return this.#allocate(segments);
    } catch {
      return undefined;
    }
  }

  #allocate(segments: number): RequestPages {
    const hasIndirect = segments > BLKIF_MAX_SEGMENTS_PER_REQUEST;
    const all = this.#grants.allocatePages(segments + (hasIndirect ? 1 : 0));
    const refs = this.#reserveRefs(all);
    if (this.#persistentFor !== undefined)
      for (const [i, ref] of refs.entries())
        this.#grants.setAccess(ref, this.#persistentFor, all.firstFrame + i, false);
    const { bytes, firstFrame } = all;
    const indirectAt = segments * PAGE_SIZE;
    const pages = {
      all,
      data: bytes.subarray(0, indirectAt),
      firstFrame,
      refs,
      indirect: hasIndirect ? new Int32Array(bytes.buffer, bytes.byteOffset + indirectAt, PAGE_SIZE / 4) : undefined,
      indirectFrame: firstFrame + segments,
      indirectRef: refs[segments] ?? 0,
    };
    this.#made.push(pages);
    return pages;
  }

  #reserveRefs(pages: OwnPages): number[] {
    const refs: number[] = [];
    try {
      while (refs.length < pages.count) refs.push(this.#grants.reserveRef());
      return refs;
    } catch (error) {
      for (const ref of refs) this.#grants.releaseRef(ref);
      this.#grants.freePages(pages);
      throw error;
    }
  }
}
