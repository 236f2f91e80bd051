/**
 * What others granted: GNTTABOP_map_grant_ref, _unmap_grant_ref and _copy with their status codes, run in the thread of the
 * domain that asks, as a hypercall would be. Not supported, and refused: transfers, transitive and sub-page grants.
 */
import { type CopyEnd, type ForeignPages, GNTST, type GrantCopy, type MappedRing, PAGE_SIZE } from "../platform.js";
import { RingWords } from "../ring-words.js";
import { type DomainTable, type DomainView, HANDLES_PER_FRAME, MAX_HANDLES, vcpuId } from "./domain-pages.js";
import { entryLock, type Granter, isGranter, isReference, pin, unpin } from "./grant-entry.js";
import { maptrackRow, maptrackWord, takeMaptrackFrame } from "./maptrack.js";
import { raiseDomainException } from "./virq.js";

const HANDLE_SHIFT = Math.log2(HANDLES_PER_FRAME);
const HANDLE_MASK = HANDLES_PER_FRAME - 1;

interface Mapping {
  readonly granter: Granter;
  readonly ref: number;
  readonly writable: boolean;
  readonly page: Uint8Array;
}

export class SimulatedForeignPages implements ForeignPages {
  readonly #domains: DomainTable;
  readonly #own: DomainView;
  readonly #lock: number;
  readonly #vcpu: number;
  /** By maptrack frame, then by handle within it. */
  readonly #mappings: (Mapping | undefined)[][] = [];
  #mapped = 0;

  constructor(domains: DomainTable, own: DomainView, vcpu: number) {
    this.#domains = domains;
    this.#own = own;
    this.#lock = entryLock(vcpuId(own.domid, vcpu));
    this.#vcpu = vcpu;
  }

  get mapped(): number {
    return this.#mapped;
  }

  map(domid: number, ref: number, writable: boolean): number {
    const granter = this.#domains.get(domid);
    if (!isGranter(granter)) return GNTST.bad_domain;
    if (!isReference(granter, ref)) return GNTST.bad_gntref;
    if (granter.freeHandles.length === 0 && !takeMaptrackFrame(this.#own, this.#vcpu, granter)) return GNTST.no_space;
    const handle = granter.freeHandles.pop()!;
    const { xen } = this.#own;
    const row = maptrackRow(handle);
    const word = maptrackWord(ref, writable);
    const frame = pin(granter, this.#own.domid, this.#lock, ref, writable);
    if (frame < 0) {
      granter.freeHandles.push(handle);
      return frame;
    }
    xen[row] = word;
    const page = pageOf(granter, frame);
    if (!page) {
      this.#release(granter, ref, writable, handle);
      return GNTST.bad_page;
    }
    (this.#mappings[handle >>> HANDLE_SHIFT] ??= [])[handle & HANDLE_MASK] = { granter, ref, writable, page };
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
    const mapping = this.#mapping(handle);
    if (!mapping) throw new TypeError(`grant handle ${handle} maps nothing`);
    return mapping.page;
  }

  unmap(handle: number): number {
    const mapping = this.#mapping(handle);
    if (!mapping) return GNTST.bad_handle;
    this.#mappings[handle >>> HANDLE_SHIFT]![handle & HANDLE_MASK] = undefined;
    this.#mapped--;
    this.#release(mapping.granter, mapping.ref, mapping.writable, handle);
    return GNTST.okay;
  }

  copy(copies: readonly GrantCopy[]): number[] {
    return copies.map((each) => this.#copyOne(each));
  }

  #copyOne({ source, dest, length }: GrantCopy): number {
    if (length === 0) return GNTST.okay;
    if (!isWithinPage(source, length) || !isWithinPage(dest, length)) return GNTST.bad_copy_arg;
    return this.#withEnd(source, length, false, (from) =>
      this.#withEnd(dest, length, true, (to) => {
        to.set(from);
        return GNTST.okay;
      }),
    );
  }

  /** Runs `use` on the bytes of one end, pinned meanwhile where it is a grant. */
  #withEnd(end: CopyEnd, length: number, writable: boolean, use: (bytes: Uint8Array) => number): number {
    if (end instanceof Uint8Array) return use(end.subarray(0, length));
    // With a handle of its own, as a mapping: a thread that ends here leaves no pin behind.
    const handle = this.map(end.domid, end.ref, writable);
    if (handle < 0) return handle;
    try {
      return use(this.page(handle).subarray(end.offset, end.offset + length));
    } finally {
      this.unmap(handle);
    }
  }

  #mapping(handle: number): Mapping | undefined {
    if (!Number.isInteger(handle) || handle < 0 || handle >= MAX_HANDLES) return undefined;
    return this.#mappings[handle >>> HANDLE_SHIFT]?.[handle & HANDLE_MASK];
  }

  #release(granter: Granter, ref: number, writable: boolean, handle: number): void {
    const { xen } = this.#own;
    const row = maptrackRow(handle);
    const left = unpin(granter, this.#lock, ref, writable);
    xen[row] = 0;
    granter.freeHandles.push(handle);
    if (left === 0 && !granter.alive) raiseDomainException(this.#domains); // it may have been the last one
  }
}

/** Undefined for a frame that the granter does not have. */
function pageOf({ memory, frames, pages }: Granter, frame: number): Uint8Array | undefined {
  if (frame >= frames) return undefined;
  return (pages[frame] ??= new Uint8Array(memory, frame * PAGE_SIZE, PAGE_SIZE));
}

/** Whether the end has that many bytes; those of a grant lie within its one page. */
function isWithinPage(end: CopyEnd, length: number): boolean {
  if (!Number.isInteger(length) || length < 0 || length > PAGE_SIZE) return false;
  if (end instanceof Uint8Array) return length <= end.length;
  return Number.isInteger(end.offset) && end.offset >= 0 && end.offset <= PAGE_SIZE - length;
}
