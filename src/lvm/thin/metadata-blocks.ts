/**
 * The metadata blocks of one transaction: which of them it made itself, and may change, and copies of all others that it must change.
 * Nothing that the committed superblock reaches is ever written.
 */
import { DiskError } from "../../errors.js";
import { type Block, type BlockKind, count64, setCount64 } from "./block.js";
import type { BlockCache } from "./block-cache.js";
import { ENTRIES_PER_BITMAP, INDEX_ENTRIES, INDEX_ENTRY, type IndexEntry, type SpaceMapRoot } from "./layout.js";
import { Node } from "./node.js";
import { type BitmapIndex, SpaceMap, type SpaceMapBlocks } from "./space-map.js";
import { lookup } from "./tree-read.js";
import { insert, type TreeType } from "./tree-update.js";

export class MetadataBlocks implements SpaceMapBlocks {
  readonly cache: BlockCache;
  readonly space: SpaceMap;
  /** Made by this transaction. */
  readonly #fresh = new Set<number>();

  constructor(cache: BlockCache, root: SpaceMapRoot) {
    this.cache = cache;
    this.space = new SpaceMap("metadata block", this, new IndexBlock(this, root.bitmapRoot), root);
  }

  get label(): string {
    return this.cache.device.label;
  }

  async node(number: number): Promise<Node> {
    return new Node(await this.cache.get(number, "node"), this.label);
  }

  bitmap(number: number): Promise<Block> {
    return this.cache.get(number, "bitmap");
  }

  async shadow(number: number, type: TreeType): Promise<Node> {
    const old = await this.node(number);
    const count = await this.space.count(number);
    if (count === 1 && this.#fresh.has(number)) {
      old.block.dirty = true;
      return old;
    }
    if (count > 1)
      for (let i = 0; i < old.count; i++)
        if (old.isLeaf) await type.increment?.(old.value(i));
        else await this.space.increment(old.child(i));
    return new Node(await this.#copy(old.block), this.label);
  }

  shadowBitmap(number: number): Promise<Block> {
    return this.#shadowSingle(number, "bitmap");
  }

  shadowIndex(number: number): Promise<Block> {
    return this.#shadowSingle(number, "index");
  }

  async #shadowSingle(number: number, kind: BlockKind): Promise<Block> {
    const old = await this.cache.get(number, kind);
    if (!this.#fresh.has(number)) return this.#copy(old);
    old.dirty = true;
    return old;
  }

  async #copy(old: Block): Promise<Block> {
    const copy = await this.create(old.kind, old.bytes.slice());
    await this.space.decrement(old.number);
    return copy;
  }

  async create(kind: BlockKind, bytes?: Uint8Array): Promise<Block> {
    const number = await this.space.allocate();
    if (number === null)
      throw new DiskError("NO_SPACE", `Cannot change ${this.label}: none of its ${this.space.size} blocks is free`);
    return this.createAt(number, kind, bytes);
  }

  /** In a block that is counted already. */
  createAt(number: number, kind: BlockKind, bytes?: Uint8Array): Block {
    this.#fresh.add(number);
    return this.cache.create(number, kind, bytes);
  }

  async createNode(isLeaf: boolean, valueSize: number): Promise<Node> {
    return Node.format(await this.create("node"), isLeaf, valueSize, this.label);
  }

  async release(number: number): Promise<number> {
    const left = await this.space.decrement(number);
    if (left === 0 && this.#fresh.delete(number)) this.cache.forget(number);
    return left;
  }

  /** Counts blocks that the device has behind those counted so far; their bitmaps lie in the first of them, from `first` on. */
  async extend(size: number, first = this.space.size): Promise<void> {
    let next = first;
    await this.space.extend(size, async () => {
      await this.space.increment(next);
      return this.createAt(next++, "bitmap");
    });
  }

  /** What was made is committed now. */
  settle(): void {
    this.#fresh.clear();
  }
}

/** Where the bitmaps of the metadata's own map are: one block. */
class IndexBlock implements BitmapIndex {
  readonly #blocks: MetadataBlocks;
  #number: number;

  constructor(blocks: MetadataBlocks, number: number) {
    this.#blocks = blocks;
    this.#number = number;
  }

  get root(): number {
    return this.#number;
  }

  async get(index: number): Promise<IndexEntry | undefined> {
    if (index >= INDEX_ENTRIES) return undefined;
    const { view } = await this.#blocks.cache.get(this.#number, "index");
    const at = 16 + index * INDEX_ENTRY.size;
    const bitmap = count64(view, at);
    if (bitmap === 0) return undefined;
    return { bitmap, free: view.getUint32(at + 8, true), noneFreeBefore: view.getUint32(at + 12, true) };
  }

  async set(index: number, { bitmap, free, noneFreeBefore }: IndexEntry): Promise<void> {
    await this.begin();
    const { view } = await this.#blocks.cache.get(this.#number, "index");
    const at = 16 + index * INDEX_ENTRY.size;
    setCount64(view, at, bitmap);
    view.setUint32(at + 8, free, true);
    view.setUint32(at + 12, noneFreeBefore, true);
  }

  async begin(): Promise<void> {
    this.#number = (await this.#blocks.shadowIndex(this.#number)).number;
  }
}

export const INDEX: TreeType = { valueSize: INDEX_ENTRY.size };

/** Where the bitmaps of the data blocks are: a tree. */
export class IndexTree implements BitmapIndex {
  readonly #blocks: MetadataBlocks;
  readonly #known = new Map<number, IndexEntry>();
  root: number;

  constructor(blocks: MetadataBlocks, root: number) {
    this.#blocks = blocks;
    this.root = root;
  }

  async get(index: number): Promise<IndexEntry | undefined> {
    const known = this.#known.get(index);
    if (known) return known;
    const value = await lookup(this.#blocks, this.root, index);
    if (!value) return undefined;
    const entry = INDEX_ENTRY.decode(value);
    if (entry.free > ENTRIES_PER_BITMAP)
      throw new DiskError(
        "CORRUPT",
        `Cannot read the data space map of ${this.#blocks.label}: ${entry.free} entries of bitmap ${index} are free`,
      );
    this.#known.set(index, entry);
    return entry;
  }

  async set(index: number, entry: IndexEntry): Promise<void> {
    this.root = await insert(this.#blocks, INDEX, this.root, index, INDEX_ENTRY.encode(entry));
    this.#known.set(index, entry);
  }

  async begin(): Promise<void> {}
}
