/**
 * A domain as a granter: it writes entries of version 1 into its own table (grant_table.h). What others do with them is in
 * `grant-entry.ts` and `foreign-pages.ts`. Frames and references are handed out here; the words are shared with the hypervisor.
 */
import { DiskError } from "../../../errors.js";
import { type GrantTable, type OwnPages, PAGE_SIZE } from "../platform.js";
import { type DomainView, ENTRIES_PER_FRAME, GRANT_ENTRIES, GRANT_FRAMES, XEN_WORDS } from "./domain-pages.js";
import { FrameAllocator } from "./frame-allocator.js";
import { GTF } from "./grant-entry.js";

/** GNTTAB_NR_RESERVED_ENTRIES: 0 console, 1 xenstore, the rest kept. */
const RESERVED_ENTRIES = 8;

export class SimulatedGrantTable implements GrantTable {
  readonly #own: DomainView;
  readonly #memory: SharedArrayBuffer;
  readonly #entries: Int32Array;
  readonly #freeRefs: number[] = [];
  #nextRef = RESERVED_ENTRIES;
  readonly #frames: FrameAllocator;

  constructor(own: DomainView) {
    if (!own.memory || !own.entries) throw new TypeError("a domain's own view holds its memory and its grant table");
    this.#own = own;
    this.#memory = own.memory;
    this.#entries = own.entries;
    this.#frames = new FrameAllocator(own.memory.byteLength / PAGE_SIZE, own.domid);
  }

  allocatePages(count: number): OwnPages {
    const firstFrame = this.#frames.take(count);
    const bytes = new Uint8Array(this.#memory, firstFrame * PAGE_SIZE, count * PAGE_SIZE);
    bytes.fill(0); // a page is never shown to a peer with what it held before (XSA-403)
    return { firstFrame, count, bytes };
  }

  freePages(pages: OwnPages): void {
    this.#frames.give(pages.firstFrame, pages.count);
  }

  grantAccess(domid: number, frame: number, readonly: boolean): number {
    const ref = this.reserveRef();
    this.setAccess(ref, domid, frame, readonly);
    return ref;
  }

  endAccess(ref: number): boolean {
    if (!this.clearAccess(ref)) return false;
    this.releaseRef(ref);
    return true;
  }

  reserveRef(): number {
    const free = this.#freeRefs.pop();
    if (free !== undefined) return free;
    if (this.#nextRef === GRANT_ENTRIES)
      throw new DiskError("NO_SPACE", `Cannot grant a page: all ${GRANT_ENTRIES} grant references are in use`);
    setupTable(this.#own, Math.floor(this.#nextRef / ENTRIES_PER_FRAME) + 1);
    return this.#nextRef++;
  }

  releaseRef(ref: number): void {
    this.#freeRefs.push(ref);
  }

  setAccess(ref: number, domid: number, frame: number, readonly: boolean): void {
    this.#entries[ref * 2 + 1] = frame;
    // The frame before the flags: the entry is valid from this store on.
    Atomics.store(this.#entries, ref * 2, (domid << 16) | GTF.permitAccess | (readonly ? GTF.readonly : 0));
  }

  clearAccess(ref: number): boolean {
    const word = Atomics.load(this.#entries, ref * 2);
    if (word & (GTF.reading | GTF.writing)) return false;
    return Atomics.compareExchange(this.#entries, ref * 2, word, 0) === word;
  }
}

/** GNTTABOP_setup_table: at least that many frames from now on; a table never shrinks. False when no table may be that large. */
export function setupTable(domain: DomainView, frames: number): boolean {
  if (!Number.isInteger(frames) || frames < 0 || frames > GRANT_FRAMES) return false;
  const { xen } = domain;
  for (;;) {
    const present = Atomics.load(xen, XEN_WORDS.grantFrames);
    if (present >= frames || Atomics.compareExchange(xen, XEN_WORDS.grantFrames, present, frames) === present)
      return true;
  }
}
