/**
 * A blkif request as the backend judges it: from a private copy of the slot to something that may be executed,
 * or to the status that answers it (the verdicts of Linux blkback, dispatch_rw_block_io and dispatch_discard_io).
 * The segments of an indirect request lie in pages that the guest can still write: each word is read once.
 */
import {
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  BLKIF_RSP,
  type BlkifAbi,
  SECTOR,
  SECTORS_PER_PAGE,
  SEGMENTS_PER_INDIRECT_PAGE,
} from "./layout.js";

/** What the requests of one device are judged against. Sizes in bytes. */
export interface VbdLimits {
  readonly size: number;
  readonly sectorSize: number;
  readonly writable: boolean;
  readonly canDiscard: boolean;
}

/** How a request reaches the segments that do not fit its slot. */
export interface IndirectPages {
  /** Segments that were offered; 0: there are no indirect requests. */
  readonly maxIndirectSegments: number;
  /** Lets `judge` read the words of a granted page; false when the page cannot be mapped or `judge` says no. */
  readIndirectPage(gref: number, judge: (words: ArrayLike<number>) => boolean): boolean;
}

/** A granted page in the backend's address space. */
export interface MappedGrant {
  ref: number;
  handle: number;
  page: Uint8Array;
  /** Requests that use it now. */
  users: number;
  lastUse: number;
  /** Stays mapped after its request (a persistent grant). */
  kept: boolean;
}

/** One request in the backend's own memory. Objects are made once per slot and used again. */
export class BlkifRequest {
  idLow = 0;
  idHigh = 0;
  /** What the response carries: for an indirect request the operation inside it. */
  operation = 0;
  /** Bytes. */
  offset = 0;
  length = 0;
  segments = 0;
  /** Room for 11 segments, and for more once an indirect request came. */
  gref = new Uint32Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  /** Byte range within each page: start, and length. */
  start = new Uint16Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  bytes = new Uint16Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  /** Where the ring's journal keeps it. */
  entry = 0;
  /** When it was taken, in milliseconds; below 0: it was refused. */
  begun = 0;
  /** Its segments' pages while it runs: the first `mapped` of them. */
  readonly grants: MappedGrant[] = [];
  mapped = 0;

  /** Reads the slot; OKAY when the request may be executed, else the status to answer. The id is always set. */
  parse(slot: ArrayLike<number>, abi: BlkifAbi, limits: VbdLimits, indirect: IndirectPages): number {
    const first = slot[0]!;
    this.operation = first & 0xff;
    this.idLow = slot[abi.idWord]!;
    this.idHigh = slot[abi.idWord + 1]!;
    this.segments = 0;
    this.offset = 0;
    this.length = 0;
    switch (this.operation) {
      case BLKIF_OP.READ:
      case BLKIF_OP.WRITE:
      case BLKIF_OP.WRITE_BARRIER:
      case BLKIF_OP.FLUSH_DISKCACHE:
        return this.#parseDirect(slot, abi, (first >>> 8) & 0xff, limits);
      case BLKIF_OP.DISCARD:
        return this.#parseDiscard(slot, abi, limits);
      case BLKIF_OP.INDIRECT:
        if (indirect.maxIndirectSegments === 0) return BLKIF_RSP.EOPNOTSUPP;
        this.operation = (first >>> 8) & 0xff;
        return this.#parseIndirect(slot, abi, first >>> 16, limits, indirect);
      default:
        return BLKIF_RSP.EOPNOTSUPP;
    }
  }

  get isWrite(): boolean {
    return this.operation !== BLKIF_OP.READ;
  }

  #parseDirect(slot: ArrayLike<number>, abi: BlkifAbi, count: number, limits: VbdLimits): number {
    if (count > BLKIF_MAX_SEGMENTS_PER_REQUEST) return BLKIF_RSP.ERROR;
    if (count === 0) {
      if (this.operation === BLKIF_OP.WRITE_BARRIER) return limits.writable ? BLKIF_RSP.OKAY : BLKIF_RSP.ERROR;
      return this.operation === BLKIF_OP.FLUSH_DISKCACHE ? BLKIF_RSP.OKAY : BLKIF_RSP.ERROR;
    }
    if (!this.#addSegments(slot, abi.segmentWord, count, limits)) return BLKIF_RSP.ERROR;
    return this.#checkTransfer(slot, abi, limits);
  }

  #parseIndirect(
    slot: ArrayLike<number>,
    abi: BlkifAbi,
    count: number,
    limits: VbdLimits,
    indirect: IndirectPages,
  ): number {
    if (this.operation !== BLKIF_OP.READ && this.operation !== BLKIF_OP.WRITE) return BLKIF_RSP.ERROR;
    if (count === 0 || count > indirect.maxIndirectSegments) return BLKIF_RSP.ERROR;
    this.#reserve(count);
    for (let page = 0; this.segments < count; page++) {
      const here = Math.min(count - this.segments, SEGMENTS_PER_INDIRECT_PAGE);
      const gref = slot[abi.indirectGrefsWord + page]! >>> 0;
      if (!indirect.readIndirectPage(gref, (words) => this.#addSegments(words, 0, here, limits)))
        return BLKIF_RSP.ERROR;
    }
    return this.#checkTransfer(slot, abi, limits);
  }

  /** Appends `count` segments; false at the first bad one. Each word of `source` is read once: the guest may own it. */
  #addSegments(source: ArrayLike<number>, at: number, count: number, limits: VbdLimits): boolean {
    for (let i = 0; i < count; i++) {
      const gref = source[at + i * 2]!;
      const sectors = source[at + i * 2 + 1]!;
      const firstSect = sectors & 0xff;
      const lastSect = (sectors >>> 8) & 0xff;
      if (lastSect >= SECTORS_PER_PAGE || lastSect < firstSect) return false;
      const bytes = (lastSect - firstSect + 1) * SECTOR;
      if (bytes % limits.sectorSize !== 0) return false;
      const segment = this.segments++;
      this.gref[segment] = gref;
      this.start[segment] = firstSect * SECTOR;
      this.bytes[segment] = bytes;
      this.length += bytes;
    }
    return true;
  }

  #parseDiscard(slot: ArrayLike<number>, abi: BlkifAbi, limits: VbdLimits): number {
    if (!limits.writable) return BLKIF_RSP.ERROR;
    if (!limits.canDiscard) return BLKIF_RSP.EOPNOTSUPP;
    // The secure flag means nothing where `discard-secure` is 0, as it always is here (blkif.h).
    this.length = sectors(slot, abi.nrSectorsWord) * SECTOR;
    return this.#checkRange(slot, abi, limits);
  }

  #checkTransfer(slot: ArrayLike<number>, abi: BlkifAbi, limits: VbdLimits): number {
    if (this.isWrite && !limits.writable) return BLKIF_RSP.ERROR;
    return this.#checkRange(slot, abi, limits);
  }

  #checkRange(slot: ArrayLike<number>, abi: BlkifAbi, limits: VbdLimits): number {
    this.offset = sectors(slot, abi.sectorWord) * SECTOR;
    // Sector numbers above 2^44 lose low bits here, but only by becoming larger than any device: they are refused all the same.
    if (this.length > limits.size || this.offset > limits.size - this.length) return BLKIF_RSP.ERROR;
    return this.offset % limits.sectorSize === 0 && this.length % limits.sectorSize === 0
      ? BLKIF_RSP.OKAY
      : BLKIF_RSP.ERROR;
  }

  #reserve(segments: number): void {
    if (segments <= this.gref.length) return;
    this.gref = new Uint32Array(segments);
    this.start = new Uint16Array(segments);
    this.bytes = new Uint16Array(segments);
  }
}

function sectors(slot: ArrayLike<number>, word: number): number {
  return (slot[word + 1]! >>> 0) * 2 ** 32 + (slot[word]! >>> 0);
}
