/** L2 entries in the bytes of a slice, read in place: one entry is decoded for every request. Cluster mapping; Extended L2 Entries. */
import { DiskError } from "../../errors.js";
import type { Geometry } from "./geometry.js";
import { COMPRESSED_BIT, COPIED_BIT, DESCRIPTOR_BITS, OFFSET_BITS, ZERO_BIT } from "./layout.js";

export const UNALLOCATED = 0;
/** Reads as zeros, and has no place. */
export const ZERO = 1;
/** Reads as zeros, and keeps a place. */
export const ZERO_PLACED = 2;
export const DATA = 3;
export const COMPRESSED = 4;
export type Kind = 0 | 1 | 2 | 3 | 4;

export interface Compressed {
  /** Byte in the file, of any alignment. */
  readonly offset: number;
  /** Bytes up to the end of the last sector; what belongs to the next cluster may be among them. */
  readonly length: number;
}

/** All 32 subclusters. */
const ALL = 0xffff_ffff;

export class L2Entries {
  readonly #size: number;
  readonly #extended: boolean;
  readonly #zeroFlag: boolean;
  readonly #clusterBits: number;
  /** A place at byte 0 is one: of an external data file. */
  readonly #external: boolean;

  constructor(geometry: Geometry, external: boolean) {
    this.#size = geometry.l2EntrySize;
    this.#extended = geometry.extendedL2;
    this.#zeroFlag = geometry.version >= 3 && !geometry.extendedL2;
    this.#clusterBits = geometry.clusterBits;
    this.#external = external;
  }

  /** Byte of the cluster's place, a multiple of 512; 0 without one. Not of compressed clusters. */
  place(view: DataView, index: number): number {
    const at = index * this.#size;
    return (view.getUint32(at) & OFFSET_BITS.high) * 2 ** 32 + ((view.getUint32(at + 4) & OFFSET_BITS.low) >>> 0);
  }

  hasPlace(view: DataView, index: number): boolean {
    return this.place(view, index) !== 0 || (this.#external && this.copied(view, index));
  }

  copied(view: DataView, index: number): boolean {
    return (view.getUint32(index * this.#size) & COPIED_BIT.high) !== 0;
  }

  isCompressed(view: DataView, index: number): boolean {
    return (view.getUint32(index * this.#size) & COMPRESSED_BIT.high) !== 0;
  }

  /** What the subcluster reads as; `sub` is 0 without extended entries. */
  kind(view: DataView, index: number, sub: number): Kind {
    const at = index * this.#size;
    if (view.getUint32(at) & COMPRESSED_BIT.high) return COMPRESSED;
    const placed = this.hasPlace(view, index);
    if (!this.#extended) {
      if (this.#zeroFlag && view.getUint32(at + 4) & ZERO_BIT.low) return placed ? ZERO_PLACED : ZERO;
      return placed ? DATA : UNALLOCATED;
    }
    const allocated = (view.getUint32(at + 12) >>> sub) & 1;
    if ((view.getUint32(at + 8) >>> sub) & 1) {
      if (allocated) throw invalid(`subcluster ${sub} is both allocated and zero`);
      return placed ? ZERO_PLACED : ZERO;
    }
    if (!allocated) return UNALLOCATED;
    if (!placed) throw invalid(`subcluster ${sub} is allocated in a cluster without a place`);
    return DATA;
  }

  compressed(view: DataView, index: number): Compressed {
    const at = index * this.#size;
    const high = view.getUint32(at) & DESCRIPTOR_BITS.high;
    const offsetBits = 62 - (this.#clusterBits - 8) - 32; // of them in the high word
    const sectors = high >>> offsetBits;
    const offset = (high & (2 ** offsetBits - 1)) * 2 ** 32 + view.getUint32(at + 4);
    return { offset, length: (sectors + 1) * 512 - (offset % 512) };
  }

  /** The cluster's own place. Subclusters `first` to `end` of it have data now; the others stay as they are. */
  setPlace(view: DataView, index: number, place: number, first: number, end: number): void {
    const at = index * this.#size;
    view.setUint32(at, (Math.floor(place / 2 ** 32) | COPIED_BIT.high) >>> 0);
    view.setUint32(at + 4, place % 2 ** 32);
    if (!this.#extended) return;
    const mask = maskOf(first, end);
    this.#setBitmap(view, at, view.getUint32(at + 12) | mask, view.getUint32(at + 8) & ~mask);
  }

  setCompressed(view: DataView, index: number, { offset, length }: Compressed): void {
    const at = index * this.#size;
    const offsetBits = 62 - (this.#clusterBits - 8) - 32;
    const sectors = Math.floor((offset + length - 1) / 512) - Math.floor(offset / 512);
    const high = sectors * 2 ** offsetBits + Math.floor(offset / 2 ** 32) + COMPRESSED_BIT.high;
    view.setUint32(at, high);
    view.setUint32(at + 4, offset % 2 ** 32);
    if (this.#extended) this.#setBitmap(view, at, 0, 0);
  }

  /** The cluster without a place: hiding what lies below, or not. */
  setEmpty(view: DataView, index: number, hiding: boolean): void {
    const at = index * this.#size;
    view.setUint32(at, 0);
    view.setUint32(at + 4, hiding && this.#zeroFlag ? ZERO_BIT.low : 0);
    if (this.#extended) this.#setBitmap(view, at, 0, hiding ? ALL : 0);
  }

  /** Subclusters that read as zeros and hide what lies below. */
  setZeroParts(view: DataView, index: number, first: number, end: number): void {
    const at = index * this.#size;
    const mask = maskOf(first, end);
    this.#setBitmap(view, at, view.getUint32(at + 12) & ~mask, view.getUint32(at + 8) | mask);
  }

  setCopied(view: DataView, index: number, copied: boolean): void {
    const at = index * this.#size;
    const high = view.getUint32(at);
    view.setUint32(at, (copied ? high | COPIED_BIT.high : high & ~COPIED_BIT.high) >>> 0);
  }

  #setBitmap(view: DataView, at: number, allocated: number, zero: number): void {
    view.setUint32(at + 8, zero >>> 0);
    view.setUint32(at + 12, allocated >>> 0);
  }
}

function maskOf(first: number, end: number): number {
  return end - first === 32 ? ALL : (2 ** (end - first) - 1) * 2 ** first;
}

function invalid(found: string): DiskError {
  return new DiskError("CORRUPT", `Cannot use an extended L2 entry: ${found}`);
}
