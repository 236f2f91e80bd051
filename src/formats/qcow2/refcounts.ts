/**
 * How often each host cluster is referred to: the refcount table in memory, the blocks through a cache.
 * Whoever calls holds the image's metadata lock. Nothing is written here but what nobody refers to yet; `metadata.ts` has the order.
 */
import { DiskError } from "../../errors.js";
import { type Slice, TableCache } from "../table-cache.js";
import type { Geometry } from "./geometry.js";
import type { GrowingFile } from "./growing-file.js";
import { MAX_REFCOUNT_TABLE_BYTES } from "./layout.js";
import { PointerTable } from "./pointer-table.js";
import { type RefcountWidth, refcountWidth } from "./refcount-width.js";

/** Counts are kept in memory up to this many bytes; 4 MiB are the counts of 128 GiB in clusters of 64 KiB. */
const CACHE_BYTES = 4 << 20;

/** Makes a larger refcount table that is written and ready to be switched to. */
export type TableSwitch = (table: PointerTable) => Promise<void>;

export class Refcounts {
  readonly file: GrowingFile;
  readonly geometry: Geometry;
  readonly width: RefcountWidth;
  readonly cache: TableCache;
  readonly #label: string;
  readonly #perSlice: number;
  table: PointerTable;

  constructor(label: string, file: GrowingFile, geometry: Geometry, table: PointerTable) {
    this.#label = label;
    this.file = file;
    this.geometry = geometry;
    this.table = table;
    this.width = refcountWidth(geometry.refcountOrder);
    this.cache = new TableCache(file, geometry.sliceSize, CACHE_BYTES);
    this.#perSlice = (geometry.sliceSize * 8) / 2 ** geometry.refcountOrder;
  }

  /** Clusters whose counts lie in one slice. */
  get perSlice(): number {
    return this.#perSlice;
  }

  /** Byte of the block that counts `cluster`; 0 when there is none and all its counts are 0. */
  blockOf(cluster: number): number {
    const index = Math.floor(cluster / this.geometry.refcountBlockEntries);
    const offset = this.table.target(index);
    const { clusterSize } = this.geometry;
    if (offset % clusterSize !== 0 || offset > this.file.size)
      throw new DiskError(
        "CORRUPT",
        `Cannot use ${this.#label}: refcount block ${index} is at byte ${offset}, allowed multiples of ${clusterSize} up to ${this.file.size} (refcount table)`,
      );
    return offset;
  }

  /** The slice with the count of `cluster`; null without a block. */
  slice(cluster: number): Slice | Promise<Slice> | null {
    const block = this.blockOf(cluster);
    if (block === 0) return null;
    const within = Math.floor((cluster % this.geometry.refcountBlockEntries) / this.#perSlice);
    return this.cache.get(block + within * this.geometry.sliceSize);
  }

  async get(cluster: number): Promise<number> {
    const slice = await this.slice(cluster);
    return slice ? this.width.get(slice.view, cluster % this.#perSlice) : 0;
  }

  /** The block must exist. */
  async set(cluster: number, count: number): Promise<void> {
    const slice = (await this.slice(cluster))!;
    this.width.set(slice.view, cluster % this.#perSlice, count);
    this.cache.markDirty(slice);
  }

  /** Changes the counts of a run of clusters by `by`: all of them or none. Throws `CORRUPT` when one would fall below 0, `UNSUPPORTED` above what fits. */
  async add(first: number, count: number, by: number): Promise<void> {
    for (let cluster = first; cluster < first + count; ) {
      const found = this.slice(cluster);
      const slice = found instanceof Promise ? await found : found;
      const end = Math.min(cluster - (cluster % this.#perSlice) + this.#perSlice, first + count);
      for (; cluster < end; cluster++) {
        const old = slice ? this.width.get(slice.view, cluster % this.#perSlice) : 0;
        if (slice && old + by >= 0 && old + by <= this.width.most) {
          this.width.set(slice.view, cluster % this.#perSlice, old + by);
          continue;
        }
        if (slice) this.cache.markDirty(slice);
        await this.add(first, cluster - first, -by); // what is done so far
        throw slice && by > 0 ? this.#tooMany(old + by) : this.#wrong(cluster, old);
      }
      if (slice) this.cache.markDirty(slice);
    }
  }

  #tooMany(count: number): DiskError {
    return new DiskError(
      "UNSUPPORTED",
      `Cannot change ${this.#label}: a refcount would be ${count}, refcounts of ${2 ** this.geometry.refcountOrder} bits allow up to ${this.width.most}`,
    );
  }

  #wrong(cluster: number, count: number): DiskError {
    const offset = cluster * this.geometry.clusterSize;
    return new DiskError(
      "CORRUPT",
      `Cannot change ${this.#label}: the cluster at byte ${offset} is in use, but its refcount is ${count}; repair the image first`,
      { details: { offset } },
    );
  }

  /** A block for `cluster`, which has none. It lies in the first cluster of those that it counts, and counts itself. */
  async addBlock(cluster: number, switchTable: TableSwitch): Promise<void> {
    const { refcountBlockEntries, clusterSize } = this.geometry;
    const index = Math.floor(cluster / refcountBlockEntries);
    if (index >= this.table.entries) return this.#growTable(index + 1, switchTable);
    const offset = index * refcountBlockEntries * clusterSize;
    await this.file.clear(offset, clusterSize);
    this.table.set(index, offset, false);
    await this.set(index * refcountBlockEntries, 1);
  }

  /**
   * A larger table, behind everything that the old one reaches, together with the blocks that count it and themselves:
   *
   *   | blocks ... | table ... |
   */
  async #growTable(least: number, switchTable: TableSwitch): Promise<void> {
    const { refcountBlockEntries, clusterSize } = this.geometry;
    const perTable = clusterSize / 8;
    const firstBlock = this.table.entries;
    const first = firstBlock * refcountBlockEntries;
    let [blocks, clusters] = [1, 1];
    for (let again = true; again; ) {
      const neededBlocks = Math.ceil((blocks + clusters) / refcountBlockEntries);
      const entries = Math.max(least, firstBlock + neededBlocks, Math.ceil(this.table.entries * 1.5));
      const neededClusters = Math.ceil(entries / perTable);
      again = neededBlocks > blocks || neededClusters > clusters;
      [blocks, clusters] = [Math.max(blocks, neededBlocks), Math.max(clusters, neededClusters)];
    }
    if (clusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES)
      throw new DiskError(
        "NO_SPACE",
        `Cannot grow ${this.#label}: its refcount table would have ${clusters * clusterSize} bytes, allowed ${MAX_REFCOUNT_TABLE_BYTES}`,
      );
    await this.file.clear(first * clusterSize, (blocks + clusters) * clusterSize);
    const table = new PointerTable((first + blocks) * clusterSize, new Uint8Array(clusters * clusterSize));
    table.bytes.set(this.table.bytes);
    for (let i = 0; i < blocks; i++) table.set(firstBlock + i, (first + i) * clusterSize, false);
    const old = this.table;
    this.table = table;
    try {
      for (let cluster = first; cluster < first + blocks + clusters; cluster++) await this.set(cluster, 1);
      await this.file.write(table.offset, table.bytes);
      await switchTable(old);
    } catch (error) {
      this.table = old;
      this.cache.forget(first * clusterSize, blocks * clusterSize);
      throw error;
    }
  }
}
