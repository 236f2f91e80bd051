/**
 * Which host clusters are free, and taking and giving them back. Whoever calls holds the image's metadata lock.
 *
 * A cluster that is given up may be taken again only when nothing on the disk refers to it any more, that is after the tables were
 * written: until then it waits in `#pending` (see metadata.ts). A cut before leaves it leaked, never used twice.
 */
import { DiskError } from "../../errors.js";
import type { Refcounts, TableSwitch } from "./refcounts.js";

export interface Run {
  /** Cluster number in the file. */
  readonly first: number;
  readonly count: number;
  /** Behind the file's end until now: reads as zeros. */
  readonly fresh: boolean;
}

/** So many given up clusters at most wait; more make a flush due. */
const MOST_PENDING = 1 << 16;

export class ClusterAllocator {
  readonly #refcounts: Refcounts;
  readonly #switchTable: TableSwitch;
  readonly #refuse: (first: number, count: number) => void;
  /** No cluster before this one is free. */
  #cursor = 0;
  #pending: { first: number; count: number }[] = [];

  /** `refuse` throws when clusters that count as free are in use by tables that it knows. */
  constructor(refcounts: Refcounts, switchTable: TableSwitch, refuse: (first: number, count: number) => void) {
    this.#refcounts = refcounts;
    this.#switchTable = switchTable;
    this.#refuse = refuse;
  }

  get pending(): boolean {
    return this.#pending.length > 0;
  }

  get crowded(): boolean {
    return this.#pending.length > MOST_PENDING;
  }

  /** Takes 1 to `most` clusters in a row, the first that are free. Their counts are 1 now. */
  async take(most: number): Promise<Run> {
    const first = await this.#firstFree(this.#cursor);
    this.#cursor = first;
    const count = await this.#freeFrom(first, most);
    return this.#taken(first, count);
  }

  /** Takes exactly `count` clusters in a row. */
  async takeRow(count: number): Promise<Run> {
    let first = await this.#firstFree(this.#cursor);
    this.#cursor = first;
    for (;;) {
      const free = await this.#freeFrom(first, count);
      if (free === count) return this.#taken(first, count);
      first = await this.#firstFree(first + free);
    }
  }

  /** Gives clusters up; they become free after the next flush. */
  giveUp(first: number, count: number): void {
    const last = this.#pending.at(-1);
    if (last && last.first + last.count === first) last.count += count;
    else this.#pending.push({ first, count });
  }

  /** Gives back what was taken and never linked. */
  async giveBack(first: number, count: number): Promise<void> {
    await this.#refcounts.add(first, count, -1);
    this.#cursor = Math.min(this.#cursor, first);
  }

  /** Lowers the counts of what was given up, now that nothing refers to it. Resolves to the clusters that became free. */
  async settle(): Promise<{ first: number; count: number }[]> {
    const pending = this.#pending;
    this.#pending = [];
    const free: { first: number; count: number }[] = [];
    for (const { first, count } of pending) {
      await this.#refcounts.add(first, count, -1);
      for (let cluster = first; cluster < first + count; cluster++) {
        if ((await this.#refcounts.get(cluster)) > 0) continue;
        this.#cursor = Math.min(this.#cursor, cluster);
        const last = free.at(-1);
        if (last && last.first + last.count === cluster) last.count++;
        else free.push({ first: cluster, count: 1 });
      }
    }
    return free;
  }

  async #taken(first: number, count: number): Promise<Run> {
    this.#refuse(first, count);
    const { file, geometry } = this.#refcounts;
    await this.#refcounts.add(first, count, 1);
    const fresh = first * geometry.clusterSize >= file.size;
    await file.grow((first + count) * geometry.clusterSize);
    if (this.#cursor === first) this.#cursor = first + count;
    return { first, count, fresh };
  }

  /** The first free cluster from `from` on, with a refcount block. */
  async #firstFree(from: number): Promise<number> {
    const { width, perSlice, file, geometry } = this.#refcounts;
    const last = Math.ceil(file.size / geometry.clusterSize) + geometry.refcountBlockEntries;
    for (let cluster = from; ; ) {
      if (cluster > last) throw this.#nothingFree(last);
      const found = this.#refcounts.slice(cluster);
      if (found === null) {
        await this.#refcounts.addBlock(cluster, this.#switchTable);
        continue;
      }
      const slice = found instanceof Promise ? await found : found;
      const end = cluster - (cluster % perSlice) + perSlice;
      for (; cluster < end; cluster++) if (width.get(slice.view, cluster % perSlice) === 0) return cluster;
    }
  }

  /** Counts behind the file's end that are not 0: a search would go on for as long as the refcount table is long. */
  #nothingFree(last: number): DiskError {
    return new DiskError(
      "CORRUPT",
      `Cannot allocate in ${this.#refcounts.file.label}: no cluster up to ${last} is free, the file ends before; repair the image first`,
    );
  }

  /** How many clusters from `first` on are free, up to `most`. */
  async #freeFrom(first: number, most: number): Promise<number> {
    const { width, perSlice } = this.#refcounts;
    for (let cluster = first; cluster < first + most; ) {
      const found = this.#refcounts.slice(cluster);
      if (found === null) {
        await this.#refcounts.addBlock(cluster, this.#switchTable);
        continue;
      }
      const slice = found instanceof Promise ? await found : found;
      const end = Math.min(cluster - (cluster % perSlice) + perSlice, first + most);
      for (; cluster < end; cluster++) if (width.get(slice.view, cluster % perSlice) !== 0) return cluster - first;
    }
    return most;
  }
}
