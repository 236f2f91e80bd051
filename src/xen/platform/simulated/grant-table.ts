/**
 * Grant table version 1 (grant_table.h): the granter's side writes entries into its own table,
 * the mapper's side does what GNTTABOP_map_grant_ref and _unmap_grant_ref do, with their status codes.
 *
 * flags and domid of an entry are one aligned 32-bit word, which both sides compare-exchange. A map pins the entry
 * (hypervisor-private count) and sets GTF_reading, and GTF_writing for a writable one; the last unmap clears them.
 * The granter takes a grant back by exchanging the word for 0, which fails while either bit is set.
 */
import { DiskError } from "../../../errors.js";
import { type ForeignPages, GNTST, type GrantTable, type MappedRing, type OwnPages, PAGE_SIZE } from "../platform.js";
import { RingWords } from "../ring-words.js";
import { type DomainTable, type DomainView, GRANT_ENTRIES, XEN_WORDS } from "./domain-pages.js";

const GTF_PERMIT_ACCESS = 1;
const GTF_TYPE_MASK = 3;
const GTF_READONLY = 4;
const GTF_READING = 8;
const GTF_WRITING = 16;
const GTF_SUB_PAGE = 256;
/** GNTTAB_NR_RESERVED_ENTRIES: 0 console, 1 xenstore, the rest kept. */
const RESERVED_ENTRIES = 8;
/** Xen gives up after this many lost races against a guest that keeps changing its entry. */
const MAX_RETRIES = 5;
/** Pins of one entry: readers in the low half, writers in the high half; Xen allows 128 of a kind. */
const READER_PIN = 1;
const WRITER_PIN = 1 << 16;
const MAX_PINS = 128;
/** Top bit of the pins' word: one thread is changing this entry. */
const ENTRY_LOCK = 1 << 31;
/** Mappings that one domain's thread may hold (Xen: 1024 maptrack frames for the whole domain). */
const MAX_HANDLES = 1 << 20;

/** A guest's own side. Frames and references are handed out here; the words are shared with the hypervisor. */
export class SimulatedGrantTable implements GrantTable {
  readonly #memory: SharedArrayBuffer;
  readonly #entries: Int32Array;
  readonly #freeRefs: number[] = [];
  #nextRef = RESERVED_ENTRIES;
  readonly #frames: FrameAllocator;

  constructor(own: DomainView) {
    if (!own.memory || !own.grantTable) throw new TypeError("a domain's own view holds its memory and its grant table");
    this.#memory = own.memory;
    this.#entries = new Int32Array(own.grantTable);
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
    const ref = this.#freeRefs.pop() ?? this.#nextRef++;
    if (ref >= GRANT_ENTRIES) {
      this.#nextRef = GRANT_ENTRIES;
      throw new DiskError("NO_SPACE", `Cannot grant a page: all ${GRANT_ENTRIES} grant references are in use`);
    }
    return ref;
  }

  releaseRef(ref: number): void {
    this.#freeRefs.push(ref);
  }

  setAccess(ref: number, domid: number, frame: number, readonly: boolean): void {
    this.#entries[ref * 2 + 1] = frame;
    // The frame before the flags: the entry is valid from this store on.
    Atomics.store(this.#entries, ref * 2, (domid << 16) | GTF_PERMIT_ACCESS | (readonly ? GTF_READONLY : 0));
  }

  clearAccess(ref: number): boolean {
    const word = Atomics.load(this.#entries, ref * 2);
    if (word & (GTF_READING | GTF_WRITING)) return false;
    return Atomics.compareExchange(this.#entries, ref * 2, word, 0) === word;
  }
}

/** The hypervisor's map and unmap, run in the thread of the domain that asks, as a hypercall would be. */
export class SimulatedForeignPages implements ForeignPages {
  readonly #domains: DomainTable;
  readonly #own: number;
  readonly #mappings: (Mapping | undefined)[] = [];
  readonly #freeHandles: number[] = [];
  readonly #pages = new WeakMap<SharedArrayBuffer, (Uint8Array | undefined)[]>();
  #mapped = 0;

  constructor(domains: DomainTable, own: DomainView) {
    this.#domains = domains;
    this.#own = own.domid;
  }

  get mapped(): number {
    return this.#mapped;
  }

  map(domid: number, ref: number, writable: boolean): number {
    const domain = this.#domains.get(domid);
    if (!domain?.alive || !domain.memory || !domain.grantTable) return GNTST.bad_domain;
    if (!Number.isInteger(ref) || ref < 0 || ref >= GRANT_ENTRIES) return GNTST.bad_gntref;
    const entries = (domain.entries ??= new Int32Array(domain.grantTable));
    const pins = XEN_WORDS.pins + ref;
    const handle = this.#freeHandles.pop() ?? this.#mappings.length;
    if (handle >= MAX_HANDLES) return GNTST.no_space;

    const frame = this.#pin(domain, entries, ref, pins, writable);
    const page = frame < 0 ? undefined : this.#pageOf(domain.memory, frame);
    if (!page) {
      if (frame >= 0) unpin(domain, entries, ref, pins, writable);
      this.#freeHandles.push(handle);
      return frame < 0 ? frame : GNTST.bad_page;
    }
    this.#mappings[handle] = { domain, ref, writable, page };
    this.#mapped++;
    return handle;
  }

  mapRing(domid: number, refs: readonly number[]): MappedRing | number {
    const handles: number[] = [];
    const unmap = () => {
      for (const handle of handles.splice(0)) this.unmap(handle);
    };
    for (const ref of refs) {
      const handle = this.map(domid, ref, true);
      if (handle < 0) {
        unmap();
        return handle;
      }
      handles.push(handle);
    }
    return { words: new RingWords(handles.map((handle) => this.page(handle))), unmap };
  }

  page(handle: number): Uint8Array {
    const mapping = this.#mappings[handle];
    if (!mapping) throw new TypeError(`grant handle ${handle} maps nothing`);
    return mapping.page;
  }

  unmap(handle: number): number {
    const mapping = this.#mappings[handle];
    if (!mapping) return GNTST.bad_handle;
    this.#mappings[handle] = undefined;
    this.#freeHandles.push(handle);
    this.#mapped--;
    unpin(mapping.domain, mapping.domain.entries!, mapping.ref, XEN_WORDS.pins + mapping.ref, mapping.writable);
    return GNTST.okay;
  }

  /** The entry's frame, pinned, or a negative status. */
  #pin(domain: DomainView, entries: Int32Array, ref: number, pins: number, writable: boolean): number {
    const wanted = GTF_READING | (writable ? GTF_WRITING : 0);
    const before = lockEntry(domain, pins);
    let after = before;
    let status: number = GNTST.general_error;
    if ((writable ? before >>> 16 : before & 0xffff) < MAX_PINS) {
      for (let attempt = 0; attempt < MAX_RETRIES; attempt++) {
        const word = Atomics.load(entries, ref * 2); // the guest may change it at any time: judge this one copy
        const allowed =
          (word & GTF_TYPE_MASK) === GTF_PERMIT_ACCESS && word >>> 16 === this.#own && !(word & GTF_SUB_PAGE);
        if (!allowed || (writable && word & GTF_READONLY)) break;
        if (Atomics.compareExchange(entries, ref * 2, word, word | wanted) === word) {
          status = entries[ref * 2 + 1]! >>> 0;
          after = before + (writable ? WRITER_PIN : READER_PIN);
          break;
        }
      }
    }
    Atomics.store(domain.xen, pins, after); // unlocks
    return status;
  }

  #pageOf(memory: SharedArrayBuffer, frame: number): Uint8Array | undefined {
    if (frame >= memory.byteLength / PAGE_SIZE) return undefined;
    let pages = this.#pages.get(memory);
    if (!pages) this.#pages.set(memory, (pages = []));
    return (pages[frame] ??= new Uint8Array(memory, frame * PAGE_SIZE, PAGE_SIZE));
  }
}

interface Mapping {
  domain: DomainView;
  ref: number;
  writable: boolean;
  page: Uint8Array;
}

/** Takes one pin back and clears the bits that no pin stands behind any more. */
function unpin(domain: DomainView, entries: Int32Array, ref: number, pins: number, writable: boolean): void {
  const left = lockEntry(domain, pins) - (writable ? WRITER_PIN : READER_PIN);
  if (left >>> 16 === 0 && writable) Atomics.and(entries, ref * 2, ~GTF_WRITING);
  if (left === 0) Atomics.and(entries, ref * 2, ~GTF_READING);
  Atomics.store(domain.xen, pins, left); // unlocks
}

/** Locks one entry against other mappers and returns its pins; storing the pins unlocks it. Held for a few instructions. */
function lockEntry(domain: DomainView, pins: number): number {
  for (;;) {
    const count = Atomics.load(domain.xen, pins) & ~ENTRY_LOCK;
    if (Atomics.compareExchange(domain.xen, pins, count, count | ENTRY_LOCK) === count) return count;
  }
}

/** Contiguous runs of a domain's frames. Frame 0 is kept back, as a null page. */
class FrameAllocator {
  readonly #domid: number;
  /** Free runs, ascending, never touching. */
  readonly #free: { first: number; count: number }[];

  constructor(frames: number, domid: number) {
    this.#domid = domid;
    this.#free = [{ first: 1, count: frames - 1 }];
  }

  take(count: number): number {
    const run = this.#free.find((candidate) => candidate.count >= count);
    if (!run)
      throw new DiskError(
        "NO_SPACE",
        `Cannot allocate ${count} pages: domain ${this.#domid} has no run of free memory that long`,
      );
    const { first } = run;
    run.first += count;
    run.count -= count;
    if (run.count === 0) this.#free.splice(this.#free.indexOf(run), 1);
    return first;
  }

  give(first: number, count: number): void {
    const at = this.#free.findIndex((run) => run.first > first);
    this.#free.splice(at < 0 ? this.#free.length : at, 0, { first, count });
    for (let i = this.#free.length - 1; i > 0; i--) {
      const before = this.#free[i - 1]!;
      if (before.first + before.count !== this.#free[i]!.first) continue;
      before.count += this.#free[i]!.count;
      this.#free.splice(i, 1);
    }
  }
}
