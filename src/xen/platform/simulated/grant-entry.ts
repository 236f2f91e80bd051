/**
 * One grant entry of version 1, as the hypervisor uses it for a mapper or a copy.
 *
 * flags and domid of an entry are one aligned 32-bit word, which both sides compare-exchange. A pin is counted in a
 * hypervisor-private word and sets GTF_reading, and GTF_writing for a writable one; the last unpin clears them.
 * The granter takes a grant back by exchanging the word for 0, which fails while either bit is set.
 */
import { GNTST } from "../platform.js";
import { type DomainView, ENTRIES_PER_FRAME, XEN_WORDS } from "./domain-pages.js";

export const GTF = { permitAccess: 1, typeMask: 3, readonly: 4, reading: 8, writing: 16, subPage: 256 } as const;

/** Xen gives up after this many lost races against a guest that keeps changing its entry. */
const MAX_RETRIES = 5;
/** A pins' word: readers in bits 0-7, writers in 8-15, and in 16-31 who is changing the entry. Xen allows 128 of a kind. */
const READER_PIN = 1;
const WRITER_PIN = 1 << 8;
const KIND_MASK = 0xff;
const PINS_MASK = 0xffff;
export const MAX_PINS = 128;
/** Looks at a locked entry before giving its holder the core. */
const SPINS = 1000;

/** A domain whose grants this thread may use. */
export type Granter = DomainView & { readonly memory: SharedArrayBuffer; readonly entries: Int32Array };

/** Whether the domain lives, and this thread holds its memory. */
export function isGranter(domain: DomainView | undefined): domain is Granter {
  return domain?.memory !== undefined && domain.entries !== undefined && domain.alive;
}

export function isReference(domain: DomainView, ref: number): boolean {
  return Number.isInteger(ref) && ref >= 0 && ref < entriesOf(domain);
}

/** Entries that the domain's table has now. */
function entriesOf(domain: DomainView): number {
  return Atomics.load(domain.xen, XEN_WORDS.grantFrames) * ENTRIES_PER_FRAME;
}

/** The vcpu as it stands in a pins' word. Domains whose numbers are 1024 apart look alike, which matters only to `breakEntryLocks`. */
export function entryLock(user: number): number {
  return ((user - 1) & 0x7fff) + 1;
}

/** The entry's frame (0 or above, not yet checked against the granter's memory), pinned for `mapper`; or a negative status and no pin. */
export function pin(granter: Granter, mapper: number, lock: number, ref: number, writable: boolean): number {
  const { entries, xen } = granter;
  const at = XEN_WORDS.pins + ref;
  const wanted = GTF.reading | (writable ? GTF.writing : 0);
  const before = lockEntry(xen, at, lock);
  let after = before;
  let status: number = GNTST.general_error;
  if (((writable ? before >>> 8 : before) & KIND_MASK) < MAX_PINS) {
    for (let attempt = 0; attempt < MAX_RETRIES; attempt++) {
      const word = Atomics.load(entries, ref * 2); // the guest may change it at any time: judge this one copy
      const isAllowed = (word & GTF.typeMask) === GTF.permitAccess && word >>> 16 === mapper && !(word & GTF.subPage);
      if (!isAllowed || (writable && word & GTF.readonly)) break;
      if (Atomics.compareExchange(entries, ref * 2, word, word | wanted) === word) {
        status = entries[ref * 2 + 1]! >>> 0;
        after = before + (writable ? WRITER_PIN : READER_PIN);
        break;
      }
    }
  }
  Atomics.store(xen, at, after); // unlocks
  return status;
}

/** Takes one pin back and clears the bits that no pin stands behind any more. Returns the pins left. */
export function unpin(granter: Granter, lock: number, ref: number, writable: boolean): number {
  const at = XEN_WORDS.pins + ref;
  const left = lockEntry(granter.xen, at, lock) - (writable ? WRITER_PIN : READER_PIN);
  clearBits(granter.entries, ref, left);
  Atomics.store(granter.xen, at, left); // unlocks
  return left;
}

/** Pins on all of the domain's entries: the mappings that anybody holds of its pages. */
export function countPins(domain: DomainView): number {
  let count = 0;
  for (const word of domain.xen.subarray(XEN_WORDS.pins, XEN_WORDS.pins + entriesOf(domain)))
    if (word !== 0) count += (word & KIND_MASK) + ((word >>> 8) & KIND_MASK);
  return count;
}

/**
 * Opens the entries that threads which are no more had locked, those with locks from `first` to `last`: the pin that they
 * were at was not counted yet, or not taken back yet.
 */
export function breakEntryLocks(granter: Granter, first: number, last: number): void {
  const pins = granter.xen.subarray(XEN_WORDS.pins, XEN_WORDS.pins + entriesOf(granter));
  for (let ref = 0; ref < pins.length; ref++) {
    const word = Atomics.load(pins, ref);
    const lock = word >>> 16;
    if (lock < first || lock > last) continue;
    clearBits(granter.entries, ref, word & PINS_MASK);
    Atomics.store(pins, ref, word & PINS_MASK);
  }
}

function clearBits(entries: Int32Array, ref: number, pins: number): void {
  if (pins >>> 8 !== 0) return;
  Atomics.and(entries, ref * 2, pins === 0 ? ~(GTF.reading | GTF.writing) : ~GTF.writing);
}

/** Locks one entry against other mappers and returns its pins; storing the pins unlocks it. Held for a few instructions. */
function lockEntry(xen: Int32Array, at: number, lock: number): number {
  for (let spins = 1; ; spins++) {
    const word = Atomics.load(xen, at);
    const pins = word & PINS_MASK;
    if (word === pins && Atomics.compareExchange(xen, at, pins, pins | (lock << 16)) === pins) return pins;
    if (spins % SPINS === 0) Atomics.wait(xen, at, word, 1);
  }
}
