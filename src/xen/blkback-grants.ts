/**
 * How one queue of the backend holds the pages of its requests: mapped for the time of a request, or, with persistent
 * grants, once and from then on (blkif.h, feature-persistent). Kept mappings are limited; the least recently used go first.
 * A frontend that hands out more grants than that is served all the same, with mappings for the time of the request.
 */
import { BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST, SEGMENTS_PER_INDIRECT_PAGE } from "./blkif/layout.js";
import type { BlkifRequest, IndirectPages, MappedGrant } from "./blkif/request.js";
import { type ForeignPages, GNTST, PAGE_SIZE } from "./platform/platform.js";

/** Kept mappings of a ring, as Linux has them: 32 requests of 32 segments and an indirect page each. */
export const MAX_PERSISTENT_GRANTS = 1056;
/** The part of them that is let go at once when there is no room. */
const PURGE = Math.ceil(MAX_PERSISTENT_GRANTS * 0.05);
/** Milliseconds after which one that nobody used is let go, as in Linux. */
export const UNUSED_MS = 60_000;

export interface RequestGrantsOptions {
  readonly frontendDomid: number;
  /** Both sides said feature-persistent. */
  readonly persistent: boolean;
  readonly maxIndirectSegments: number;
}

export class RequestGrants implements IndirectPages {
  readonly maxIndirectSegments: number;
  readonly #foreign: ForeignPages;
  readonly #domid: number;
  readonly #kept: Map<number, MappedGrant> | undefined;
  readonly #spare: MappedGrant[] = [];
  #uses = 0;
  #mapped = 0;
  #nextPurge = 0;
  /** When the count of uses was what: the clock is not asked for every page. */
  readonly #marks: { readonly time: number; readonly uses: number }[] = [];

  constructor(foreign: ForeignPages, options: RequestGrantsOptions) {
    this.#foreign = foreign;
    this.#domid = options.frontendDomid;
    this.#kept = options.persistent ? new Map() : undefined;
    this.maxIndirectSegments = Math.min(
      options.maxIndirectSegments,
      BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST * SEGMENTS_PER_INDIRECT_PAGE,
    );
  }

  /** Mappings that outlive their requests. */
  get kept(): number {
    return this.#kept?.size ?? 0;
  }

  /** All mappings. */
  get mapped(): number {
    return this.#mapped;
  }

  /** Maps the pages of all segments: read-only for a WRITE, unless they are kept. All, or none and the GNTST status that says why. */
  map(request: BlkifRequest): number {
    for (let i = 0; i < request.segments; i++) {
      const grant = this.#take(request.gref[i]!, !request.isWrite);
      if (typeof grant === "number") {
        this.unmap(request);
        return grant;
      }
      request.grants[i] = grant;
      request.mapped = i + 1;
    }
    return GNTST.okay;
  }

  unmap(request: BlkifRequest): void {
    for (let i = 0; i < request.mapped; i++) this.#release(request.grants[i]!);
    request.mapped = 0;
  }

  readIndirectPage(gref: number, judge: (words: ArrayLike<number>) => boolean): boolean {
    const grant = this.#take(gref, false);
    if (typeof grant === "number") return false;
    try {
      return judge(new Int32Array(grant.page.buffer, grant.page.byteOffset, PAGE_SIZE / 4));
    } finally {
      this.#release(grant);
    }
  }

  /** Lets go what was kept and has not been used for a minute. Called now and then; `now` in milliseconds. */
  dropUnused(now: number): void {
    const marks = this.#marks;
    marks.push({ time: now, uses: this.#uses });
    while (marks.length > 1 && marks[1]!.time <= now - UNUSED_MS) marks.shift();
    if (marks[0]!.time > now - UNUSED_MS) return;
    for (const grant of this.#kept?.values() ?? [])
      if (grant.users === 0 && grant.lastUse <= marks[0]!.uses) this.#letGo(grant);
  }

  /** Lets the kept pages go. No request uses any. */
  close(): void {
    for (const grant of this.#kept?.values() ?? []) this.#letGo(grant);
  }

  /** A negative GNTST status when it cannot be mapped. */
  #take(ref: number, writable: boolean): MappedGrant | number {
    this.#uses++;
    const known = this.#kept?.get(ref);
    if (known) {
      known.users++;
      known.lastUse = this.#uses;
      return known;
    }
    // A page that is kept serves reads and writes: the frontend grants all of them writable.
    const handle = this.#foreign.map(this.#domid, ref, writable || this.#kept !== undefined);
    if (handle < 0) return handle;
    this.#mapped++;
    const page = this.#foreign.page(handle);
    const grant = this.#spare.pop() ?? { ref, handle, page, users: 0, lastUse: 0, kept: false };
    grant.ref = ref;
    grant.handle = handle;
    grant.page = page;
    grant.users = 1;
    grant.lastUse = this.#uses;
    grant.kept = this.#kept !== undefined && this.#hasRoom();
    if (grant.kept) this.#kept?.set(ref, grant);
    return grant;
  }

  #release(grant: MappedGrant): void {
    grant.users--;
    if (grant.kept) return;
    this.#mapped--;
    this.#foreign.unmap(grant.handle);
    this.#spare.push(grant);
  }

  #hasRoom(): boolean {
    if (this.kept < MAX_PERSISTENT_GRANTS) return true;
    if (this.#uses < this.#nextPurge) return false;
    const idle = [...this.#kept!.values()].filter((grant) => grant.users === 0);
    idle.sort((a, b) => a.lastUse - b.lastUse);
    for (const grant of idle.slice(0, PURGE)) this.#letGo(grant);
    // With all of them in use, looking again for every page would cost more than mapping it.
    if (idle.length < PURGE) this.#nextPurge = this.#uses + MAX_PERSISTENT_GRANTS;
    return idle.length > 0;
  }

  #letGo(grant: MappedGrant): void {
    this.#kept!.delete(grant.ref);
    this.#mapped--;
    this.#foreign.unmap(grant.handle);
  }
}
