/**
 * Metadata blocks in memory, at most `limit` of them between operations. A block that the transaction made may be stored before
 * the commit: nothing that is committed reaches it. Blocks are looked at and changed by one operation at a time (the pool's queue),
 * and given up only by `trim`, between operations.
 */
import type { BlockDevice } from "../../block/device.js";
import { type Block, type BlockKind, checkBlock, damaged, newBlock, seal } from "./block.js";
import { BLOCK } from "./layout.js";

/** 16 MiB. */
export const CACHED_BLOCKS = 4096;

export class BlockCache {
  readonly device: BlockDevice;
  /** Least recently used first. */
  readonly #blocks = new Map<number, Block>();
  readonly #limit: number;

  constructor(device: BlockDevice, limit = CACHED_BLOCKS) {
    this.device = device;
    this.#limit = limit;
  }

  /** Whole blocks of the device. */
  get size(): number {
    return Math.floor(this.device.size / BLOCK);
  }

  /** Throws `CORRUPT` when the block is of another kind or damaged. */
  async get(number: number, kind: BlockKind): Promise<Block> {
    const known = this.#blocks.get(number);
    if (known?.kind === kind) {
      this.#blocks.delete(number);
      this.#blocks.set(number, known);
      return known;
    }
    const { label } = this.device;
    if (known) throw damaged(label, number, `it is a ${known.kind}, needed as a ${kind}`);
    if (!(number >= 0 && number < this.size)) throw damaged(label, number, `there are ${this.size} blocks`);
    const block = newBlock(number, kind);
    await this.device.read(number * BLOCK, block.bytes);
    checkBlock(block, label);
    this.#blocks.set(number, block);
    return block;
  }

  /** A new block; whatever was there is nobody's. */
  create(number: number, kind: BlockKind, bytes?: Uint8Array): Block {
    const block = newBlock(number, kind, bytes);
    block.dirty = true;
    this.#blocks.delete(number);
    this.#blocks.set(number, block);
    return block;
  }

  /** Nobody needs the block any more, stored or not. */
  forget(number: number): void {
    this.#blocks.delete(number);
  }

  /** Stores everything that was changed; not flushed. */
  async store(): Promise<void> {
    const dirty = [...this.#blocks.values()].filter((block) => block.dirty).sort((a, b) => a.number - b.number);
    for (const block of dirty) await this.#store(block);
  }

  async #store(block: Block): Promise<void> {
    seal(block);
    await this.device.write(block.number * BLOCK, block.bytes);
    block.dirty = false;
  }

  /** Back to the limit. */
  async trim(): Promise<void> {
    if (this.#blocks.size <= this.#limit) return;
    for (const block of this.#blocks.values()) {
      if (this.#blocks.size <= this.#limit) return;
      if (block.dirty) {
        if (!this.device.writable) continue;
        await this.#store(block);
      }
      this.#blocks.delete(block.number);
    }
  }
}
