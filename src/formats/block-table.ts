/**
 * What formats with one flat table have in common (VDI, VHD, VHDX): an entry for each block of the disk says where the block lies
 * in the file. New blocks are put at the end of the file; their entries wait in memory until `commit`, so that nothing on
 * the disk names a block before its data is there.
 */
import type { TableCache } from "./table-cache.js";

/** An entry that names no place: the block is not stored here, what lies beneath shows. */
export const ABSENT = -1;
/** An entry that says: this block reads as zeros. */
export const ZEROS = -2;

/** How one entry lies in its table. */
export interface EntryCodec {
  /** Bytes of an entry. */
  readonly size: number;
  /** Byte in the file at which the block's data begins, `ABSENT` or `ZEROS`. Throws `CORRUPT`. */
  decode(view: DataView, at: number, block: number): number;
  encode(view: DataView, at: number, place: number): void;
}

export class BlockTable {
  readonly #cache: TableCache;
  readonly #codec: EntryCodec;
  /** Byte in the file. */
  readonly #offset: number;
  readonly #perSlice: number;
  readonly blocks: number;

  /** Entries never cross slices of the cache, whose first one begins at `offset`. */
  constructor(cache: TableCache, codec: EntryCodec, offset: number, blocks: number) {
    this.#cache = cache;
    this.#codec = codec;
    this.#offset = offset;
    this.#perSlice = cache.sliceSize / codec.size;
    this.blocks = blocks;
  }

  /** Where a block lies; without a promise when the slice is in memory. */
  get(block: number): number | Promise<number> {
    const slice = this.#cache.get(this.#sliceOffset(block));
    if (slice instanceof Promise) return slice.then(({ view }) => this.#decode(view, block));
    return this.#decode(slice.view, block);
  }

  async set(block: number, place: number): Promise<void> {
    const slice = await this.#cache.get(this.#sliceOffset(block));
    this.#codec.encode(slice.view, this.#at(block), place);
    this.#cache.markDirty(slice);
  }

  /** How many blocks from `block` on, at least one and no more than `most`, have the same entry. Looks at one slice only. */
  runOf(block: number, place: typeof ABSENT | typeof ZEROS, most: number): number | Promise<number> {
    const slice = this.#cache.get(this.#sliceOffset(block));
    if (slice instanceof Promise) return slice.then(({ view }) => this.#run(view, block, place, most));
    return this.#run(slice.view, block, place, most);
  }

  #run(view: DataView, block: number, place: number, most: number): number {
    const end = Math.min(block + most, this.blocks, (Math.floor(block / this.#perSlice) + 1) * this.#perSlice);
    let next = block + 1;
    while (next < end && this.#decode(view, next) === place) next++;
    return next - block;
  }

  /** Every entry that names a place, in order. */
  async *places(): AsyncGenerator<{ block: number; place: number }> {
    for (let first = 0; first < this.blocks; first += this.#perSlice) {
      const { view } = await this.#cache.get(this.#sliceOffset(first));
      for (let block = first; block < Math.min(first + this.#perSlice, this.blocks); block++) {
        const place = this.#decode(view, block);
        if (place >= 0) yield { block, place };
      }
    }
  }

  #sliceOffset(block: number): number {
    return this.#offset + Math.floor(block / this.#perSlice) * this.#cache.sliceSize;
  }

  #at(block: number): number {
    return (block % this.#perSlice) * this.#codec.size;
  }

  #decode(view: DataView, block: number): number {
    return this.#codec.decode(view, this.#at(block), block);
  }
}
