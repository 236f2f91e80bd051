/**
 * A blkif request as the backend judges it: from a private copy of the slot to something that may be executed,
 * or to the status that answers it (the verdicts of Linux blkback, dispatch_rw_block_io and dispatch_discard_io).
 */
import {
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  BLKIF_RSP,
  type BlkifAbi,
  SECTOR,
  SECTORS_PER_PAGE,
} from "./layout.js";

/** What the requests of one device are judged against. Sizes in bytes. */
export interface VbdLimits {
  readonly size: number;
  readonly sectorSize: number;
  readonly writable: boolean;
  readonly canDiscard: boolean;
}

/** One request in the backend's own memory. Objects are made once per slot and used again. */
export class BlkifRequest {
  idLow = 0;
  idHigh = 0;
  operation = 0;
  /** Bytes. */
  offset = 0;
  length = 0;
  segments = 0;
  readonly gref = new Uint32Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  /** Byte range within each page: start, and length. */
  readonly start = new Uint16Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  readonly bytes = new Uint16Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  /** Handles of the mapped pages, for as long as the request runs. */
  readonly handles = new Int32Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  mapped = 0;

  /** Reads the slot; OKAY when the request may be executed, else the status to answer. The id is always set. */
  parse(slot: Int32Array, abi: BlkifAbi, limits: VbdLimits): number {
    const first = slot[0]!;
    this.operation = first & 0xff;
    this.idLow = slot[abi.idWord]!;
    this.idHigh = slot[abi.idWord + 1]!;
    this.segments = 0;
    this.length = 0;
    this.mapped = 0;
    switch (this.operation) {
      case BLKIF_OP.READ:
      case BLKIF_OP.WRITE:
      case BLKIF_OP.FLUSH_DISKCACHE:
        return this.#parseSegments(slot, abi, (first >>> 8) & 0xff, limits);
      case BLKIF_OP.DISCARD:
        return this.#parseDiscard(slot, abi, limits);
      default:
        return BLKIF_RSP.EOPNOTSUPP;
    }
  }

  get isWrite(): boolean {
    return this.operation !== BLKIF_OP.READ;
  }

  #parseSegments(slot: Int32Array, abi: BlkifAbi, count: number, limits: VbdLimits): number {
    if (count > BLKIF_MAX_SEGMENTS_PER_REQUEST) return BLKIF_RSP.ERROR;
    if (count === 0) return this.operation === BLKIF_OP.FLUSH_DISKCACHE ? BLKIF_RSP.OKAY : BLKIF_RSP.ERROR;
    for (let i = 0; i < count; i++) {
      const at = abi.segmentWord + i * 2;
      const firstSect = slot[at + 1]! & 0xff;
      const lastSect = (slot[at + 1]! >>> 8) & 0xff;
      if (lastSect >= SECTORS_PER_PAGE || lastSect < firstSect) return BLKIF_RSP.ERROR;
      const bytes = (lastSect - firstSect + 1) * SECTOR;
      if (bytes % limits.sectorSize !== 0) return BLKIF_RSP.ERROR;
      this.gref[i] = slot[at]!;
      this.start[i] = firstSect * SECTOR;
      this.bytes[i] = bytes;
      this.length += bytes;
    }
    this.segments = count;
    if (this.isWrite && !limits.writable) return BLKIF_RSP.ERROR;
    return this.#checkRange(slot, abi, limits);
  }

  #parseDiscard(slot: Int32Array, abi: BlkifAbi, limits: VbdLimits): number {
    if (!limits.writable) return BLKIF_RSP.ERROR;
    if (!limits.canDiscard) return BLKIF_RSP.EOPNOTSUPP;
    this.length = sectors(slot, abi.nrSectorsWord) * SECTOR;
    return this.#checkRange(slot, abi, limits);
  }

  #checkRange(slot: Int32Array, abi: BlkifAbi, limits: VbdLimits): number {
    this.offset = sectors(slot, abi.sectorWord) * SECTOR;
    // Sector numbers above 2^44 lose low bits here, but only by becoming larger than any device: they are refused all the same.
    if (this.length > limits.size || this.offset > limits.size - this.length) return BLKIF_RSP.ERROR;
    return this.offset % limits.sectorSize === 0 && this.length % limits.sectorSize === 0
      ? BLKIF_RSP.OKAY
      : BLKIF_RSP.ERROR;
  }
}

function sectors(slot: Int32Array, word: number): number {
  return (slot[word + 1]! >>> 0) * 2 ** 32 + (slot[word]! >>> 0);
}
