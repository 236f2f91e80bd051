/**
 * Reference counts of blocks: two bits each in bitmaps, counts from 3 on in a tree beside them. Linux
 * drivers/md/persistent-data/dm-space-map-common.c.
 *
 * Counts that change are kept in memory and stored with the commit, which solves the riddle of the metadata's own map: storing it
 * takes blocks of itself. A block that is free now but was not when the transaction began is not given out: the committed trees
 * still reach it.
 */
import { DiskError } from "../../errors.js";
import type { Block } from "./block.js";
import { ENTRIES_PER_BITMAP, type IndexEntry, type SpaceMapRoot } from "./layout.js";
import { lookup } from "./tree-read.js";
import { insert, removeRange, type TreeType, type TreeWriter } from "./tree-update.js";

/** Where the bitmaps are. */
export interface BitmapIndex {
  /** Undefined behind the last bitmap. */
  get(index: number): Promise<IndexEntry | undefined>;
  set(index: number, entry: IndexEntry): Promise<void>;
  /** Comes before all `set` of one commit. */
  begin(): Promise<void>;
  readonly root: number;
}

export interface SpaceMapBlocks extends TreeWriter {
  bitmap(number: number): Promise<Block>;
  shadowBitmap(number: number): Promise<Block>;
}

export const COUNTS: TreeType = { valueSize: 4 };
/** From here on a count is in the tree. */
const MANY = 3;

export class SpaceMap {
  readonly #what: string;
  readonly #blocks: SpaceMapBlocks;
  readonly #index: BitmapIndex;
  #root: SpaceMapRoot;
  /** Counts that differ from the stored ones. */
  readonly #changes = new Map<number, number>();
  /** Bitmaps that changes lie in. */
  readonly #touched = new Set<number>();
  /** Among the changes: of stored 0 to more, and the other way. */
  #taken = 0;
  #freed = 0;
  #cursor = 0;

  /** `what` names the counted blocks, for messages. */
  constructor(what: string, blocks: SpaceMapBlocks, index: BitmapIndex, root: SpaceMapRoot) {
    this.#what = what;
    this.#blocks = blocks;
    this.#index = index;
    this.#root = root;
  }

  get size(): number {
    return this.#root.blocks;
  }

  /** Blocks in use. */
  get allocated(): number {
    return this.#root.allocated + this.#taken - this.#freed;
  }

  /** Blocks that can be given out before the next commit. */
  get free(): number {
    return this.#root.blocks - this.#root.allocated - this.#taken;
  }

  /** Blocks that the next commit makes free. */
  get freed(): number {
    return this.#freed;
  }

  get changed(): number {
    return this.#changes.size;
  }

  /** Bitmaps that the commit will copy. */
  get touchedBitmaps(): number {
    return this.#touched.size;
  }

  async count(block: number): Promise<number> {
    return this.#changes.get(block) ?? this.#stored(block);
  }

  async increment(block: number): Promise<number> {
    return this.#change(block, 1);
  }

  /** Returns what is left. */
  async decrement(block: number): Promise<number> {
    return this.#change(block, -1);
  }

  /** A block that nobody refers to, now counted once; null when there is none. */
  async allocate(): Promise<number | null> {
    const found = await this.find();
    if (found !== null) await this.#change(found, 1);
    return found;
  }

  /** A block that nobody refers to, not counted; null when there is none. `busy` blocks are left alone. */
  async find(busy: (block: number) => boolean = () => false): Promise<number | null> {
    if (this.free <= 0) return null;
    const cursor = this.#cursor;
    const found = (await this.#find(cursor, this.size, busy)) ?? (await this.#find(0, cursor, busy));
    if (found !== null) this.#cursor = found + 1;
    return found;
  }

  async #find(from: number, to: number, busy: (block: number) => boolean): Promise<number | null> {
    for (let i = Math.floor(from / ENTRIES_PER_BITMAP); i * ENTRIES_PER_BITMAP < to; i++) {
      const entry = await this.#index.get(i);
      if (entry?.free === 0) continue;
      const start = i * ENTRIES_PER_BITMAP;
      const bitmap = entry && (await this.#blocks.bitmap(entry.bitmap));
      const end = Math.min(to, start + ENTRIES_PER_BITMAP);
      for (let block = Math.max(from, start + (entry?.noneFreeBefore ?? 0)); block < end; block++)
        if ((!bitmap || bits(bitmap, block - start) === 0) && !this.#changes.has(block) && !busy(block)) return block;
    }
    return null;
  }

  async #change(block: number, by: number): Promise<number> {
    const stored = await this.#stored(block);
    const before = this.#changes.get(block) ?? stored;
    const count = before + by;
    if (!(block < this.size) || count < 0)
      throw new DiskError(
        "CORRUPT",
        `Cannot count ${this.#what} ${block}: it has ${before} references, and there are ${this.size} blocks`,
      );
    if (count === stored) this.#changes.delete(block);
    else this.#changes.set(block, count);
    this.#touched.add(Math.floor(block / ENTRIES_PER_BITMAP));
    if (stored === 0) this.#taken += Number(count > 0) - Number(before > 0);
    else this.#freed += Number(count === 0) - Number(before === 0);
    return count;
  }

  async #stored(block: number): Promise<number> {
    const entry = await this.#index.get(Math.floor(block / ENTRIES_PER_BITMAP));
    if (!entry) return 0;
    const count = bits(await this.#blocks.bitmap(entry.bitmap), block % ENTRIES_PER_BITMAP);
    if (count < MANY) return count;
    const value = await lookup(this.#blocks, this.#root.refCountRoot, block);
    if (value) return new DataView(value.buffer, value.byteOffset, 4).getUint32(0, true);
    throw new DiskError("CORRUPT", `Cannot count ${this.#what} ${block}: it has no entry among the large counts`);
  }

  /** More blocks behind the present ones. */
  async extend(size: number, placeOf: () => Promise<Block>): Promise<void> {
    const before = this.size;
    this.#root = { ...this.#root, blocks: size };
    const last = Math.floor(before / ENTRIES_PER_BITMAP);
    const partial = before % ENTRIES_PER_BITMAP === 0 ? undefined : await this.#index.get(last);
    if (partial) {
      // Some writers count only the entries that were in use of the last bitmap as free.
      const bitmap = await this.#blocks.bitmap(partial.bitmap);
      const free = Array.from({ length: ENTRIES_PER_BITMAP }, (_, i) => bits(bitmap, i)).filter((n) => n === 0).length;
      await this.#index.set(last, { ...partial, free });
    }
    for (let i = Math.ceil(before / ENTRIES_PER_BITMAP); i * ENTRIES_PER_BITMAP < size; i++) {
      const bitmap = await placeOf();
      await this.#index.set(i, { bitmap: bitmap.number, free: ENTRIES_PER_BITMAP, noneFreeBefore: 0 });
    }
  }

  /** Puts all changes into blocks of this transaction. Returns the root to be committed. */
  async apply(): Promise<SpaceMapRoot> {
    await this.#index.begin();
    await this.#applyMany();
    const bitmaps = new Map<number, { entry: IndexEntry; bitmap: Block }>();
    for (const i of this.#touched) {
      // In the metadata's own map this touches more, which the loop comes to.
      const entry = (await this.#index.get(i))!;
      bitmaps.set(i, { entry, bitmap: await this.#blocks.shadowBitmap(entry.bitmap) });
    }
    const { allocated } = this;
    for (const [block, count] of [...this.#changes].sort(([a], [b]) => a - b)) {
      const at = bitmaps.get(Math.floor(block / ENTRIES_PER_BITMAP))!;
      at.entry = changeEntry(at.entry, at.bitmap, block % ENTRIES_PER_BITMAP, count);
    }
    for (const [i, { entry, bitmap }] of bitmaps) await this.#index.set(i, { ...entry, bitmap: bitmap.number });
    this.#changes.clear();
    this.#touched.clear();
    this.#taken = 0;
    this.#freed = 0;
    this.#root = { ...this.#root, allocated, bitmapRoot: this.#index.root };
    return this.#root;
  }

  async #applyMany(): Promise<void> {
    // Nodes of the tree are counted once each, so that these changes do not grow while they are stored.
    for (const [block, count] of [...this.#changes]) {
      const { refCountRoot } = this.#root;
      const stored = await this.#stored(block);
      let root = refCountRoot;
      if (count >= MANY) root = await insert(this.#blocks, COUNTS, refCountRoot, block, u32Bytes(count));
      else if (stored >= MANY) root = await removeRange(this.#blocks, COUNTS, refCountRoot, block, block + 1);
      this.#root = { ...this.#root, refCountRoot: root };
    }
  }
}

/** The high bit of a pair comes first. */
export function bits({ bytes }: Block, entry: number): number {
  const pair = (bytes[16 + (entry >> 2)]! >> ((entry & 3) * 2)) & 3;
  return ((pair & 1) << 1) | (pair >> 1);
}

export function setBits({ bytes }: Block, entry: number, count: number): void {
  const at = 16 + (entry >> 2);
  const shift = (entry & 3) * 2;
  const pair = ((count & 1) << 1) | (count >> 1);
  bytes[at] = (bytes[at]! & ~(3 << shift)) | (pair << shift);
}

function changeEntry(entry: IndexEntry, bitmap: Block, at: number, count: number): IndexEntry {
  const before = bits(bitmap, at);
  setBits(bitmap, at, Math.min(count, MANY));
  bitmap.dirty = true;
  if (before === 0 && count > 0)
    return {
      ...entry,
      free: entry.free - 1,
      noneFreeBefore: entry.noneFreeBefore === at ? at + 1 : entry.noneFreeBefore,
    };
  if (before > 0 && count === 0)
    return { ...entry, free: entry.free + 1, noneFreeBefore: Math.min(entry.noneFreeBefore, at) };
  return entry;
}

function u32Bytes(value: number): Uint8Array {
  const result = new Uint8Array(4);
  new DataView(result.buffer).setUint32(0, value, true);
  return result;
}
