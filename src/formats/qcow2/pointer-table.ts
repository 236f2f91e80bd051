/** A table of 64-bit entries that is kept whole in memory: the L1 table and the refcount table. Changed entries are written on demand. */
import { alignDown } from "../../bytes/align.js";
import type { GrowingFile } from "./growing-file.js";
import { COPIED_BIT, OFFSET_BITS } from "./layout.js";

/** Entries are written in sectors, which no disk tears. */
const SECTOR = 512;

export class PointerTable {
  /** Byte in the file. */
  readonly offset: number;
  readonly entries: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Sectors of the table that have changed, by their first byte. */
  readonly #dirty = new Set<number>();

  constructor(offset: number, bytes: Uint8Array) {
    this.offset = offset;
    this.entries = Math.floor(bytes.length / 8);
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  static async read(file: GrowingFile, offset: number, entries: number): Promise<PointerTable> {
    const bytes = new Uint8Array(entries * 8);
    await file.read(offset, bytes);
    return new PointerTable(offset, bytes);
  }

  get dirty(): boolean {
    return this.#dirty.size > 0;
  }

  /** Where the entry points, 0 when it does not; a multiple of 512. */
  target(index: number): number {
    if (index >= this.entries) return 0;
    const high = this.view.getUint32(index * 8) & OFFSET_BITS.high;
    return high * 2 ** 32 + ((this.view.getUint32(index * 8 + 4) & OFFSET_BITS.low) >>> 0);
  }

  /** The COPIED flag: what it points to has a refcount of exactly one. */
  copied(index: number): boolean {
    return (this.view.getUint32(index * 8) & COPIED_BIT.high) !== 0;
  }

  set(index: number, target: number, copied: boolean): void {
    this.view.setUint32(index * 8, (Math.floor(target / 2 ** 32) | (copied ? COPIED_BIT.high : 0)) >>> 0);
    this.view.setUint32(index * 8 + 4, target % 2 ** 32);
    this.#dirty.add(alignDown(index * 8, SECTOR));
  }

  /** As if the entry pointed nowhere, in memory only. */
  ignore(index: number): void {
    this.view.setUint32(index * 8, 0);
    this.view.setUint32(index * 8 + 4, 0);
  }

  /** The entry's bits of a mask, as two words. */
  has(index: number, mask: { high: number; low: number }): boolean {
    return (this.view.getUint32(index * 8) & mask.high) !== 0 || (this.view.getUint32(index * 8 + 4) & mask.low) !== 0;
  }

  async writeDirty(file: GrowingFile): Promise<void> {
    for (const at of [...this.#dirty].sort((a, b) => a - b)) {
      this.#dirty.delete(at);
      try {
        await file.write(this.offset + at, this.bytes.subarray(at, Math.min(at + SECTOR, this.bytes.length)));
      } catch (error) {
        this.#dirty.add(at);
        throw error;
      }
    }
  }
}
