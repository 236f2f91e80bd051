/**
 * Giving guest clusters a place. Tables change in memory only; metadata.ts tells when they reach the disk.
 *
 *   allocate   a host cluster is counted; nobody refers to it (a cut leaves it leaked)
 *   (the data is written there)
 *   commit     the L2 entry names it; the place that the guest cluster had before is given up
 */
import type { Allocation } from "../../block/mapped.js";
import type { Slice } from "../table-cache.js";
import type { ActiveTables } from "./active-tables.js";
import type { Qcow2Image } from "./image.js";
import type { ClusterLocator } from "./locate.js";

type Place = Allocation & { readonly start: number; readonly length: number };

export class ClusterPlacer {
  readonly #image: Qcow2Image;
  readonly #locator: ClusterLocator;
  readonly #tables: ActiveTables;
  readonly #clusterSize: number;
  readonly #subclusterSize: number;

  constructor(image: Qcow2Image, locator: ClusterLocator, tables: ActiveTables) {
    this.#image = image;
    this.#locator = locator;
    this.#tables = tables;
    this.#clusterSize = image.geometry.clusterSize;
    this.#subclusterSize = image.geometry.subclusterSize;
  }

  /** A place for bytes that have none: for whole clusters in a row, or for the subclusters of one that are touched. */
  allocate(offset: number, length: number): Promise<Allocation> {
    return this.#image.metadata.run(async () => {
      await this.#image.makeRoom();
      const slice = await this.#tables.own(offset);
      const index = this.#locator.indexInSlice(offset);
      const cluster = offset - (offset % this.#clusterSize);
      const touched = this.#touched(cluster, offset, Math.min(offset + length, cluster + this.#clusterSize));
      if (this.#tables.ownsPlace(slice, index))
        return this.#existing(cluster, this.#locator.place(slice, index), ...touched);
      const count = this.#withoutPlace(slice, index, cluster, offset + length);
      const all = count > 1 || this.#tables.hasContents(slice, index);
      const [start, end] = all ? [cluster, cluster + count * this.#clusterSize] : touched;
      // In an external data file every cluster has its place from the start.
      return this.#image.dataFile
        ? this.#existing(cluster, cluster, start, end)
        : this.#fresh(cluster, start, end, count);
    });
  }

  /**
   * Places for whole clusters that have none, from `offset` on; what is there now may stay unallocated in them (extended L2 entries over
   * a backing file), otherwise they read as what the place holds.
   */
  reserve(offset: number, length: number): Promise<Place> {
    return this.#image.metadata.run(async () => {
      await this.#image.makeRoom();
      const slice = await this.#tables.own(offset);
      const count = this.#withoutPlace(slice, this.#locator.indexInSlice(offset), offset, offset + length);
      const end = offset + count * this.#clusterSize;
      const place = this.#image.dataFile
        ? this.#existing(offset, offset, offset, end)
        : await this.#fresh(offset, offset, end, count);
      if (!this.#image.backing) return place;
      return { ...place, commit: () => this.#link(offset, place.offset, offset, offset + place.length, false) };
    });
  }

  /** The subclusters that a range within a cluster touches, as guest bytes. */
  #touched(cluster: number, offset: number, end: number): [start: number, end: number] {
    const size = this.#subclusterSize;
    return [cluster + Math.floor((offset - cluster) / size) * size, cluster + Math.ceil((end - cluster) / size) * size];
  }

  /** Clusters from `index` on that need a new place, as far as the range up to `end` covers them; at least 1. */
  #withoutPlace(slice: Slice, index: number, cluster: number, end: number): number {
    const covered = (end - cluster) / this.#clusterSize;
    const most = end >= this.#image.size ? Math.ceil(covered) : Math.floor(covered);
    let count = 1;
    while (count < most && index + count < this.#locator.perSlice && !this.#tables.ownsPlace(slice, index + count))
      count++;
    return count;
  }

  /** Guest bytes `start` to `end` of clusters from `cluster` on, whose place begins at `place` and is not shared. */
  #existing(cluster: number, place: number, start: number, end: number): Place {
    return {
      device: this.#image.dataFile ?? this.#image.file.endless,
      offset: place + start - cluster,
      start,
      length: end - start,
      commit: () => this.#link(cluster, place, start, end),
    };
  }

  async #fresh(cluster: number, start: number, end: number, count: number): Promise<Place> {
    const run = await this.#image.allocator.take(count);
    const place = run.first * this.#clusterSize;
    return {
      ...this.#existing(cluster, place, start, Math.min(end, cluster + run.count * this.#clusterSize)),
      zeroed: run.fresh,
      cancel: () => this.#image.metadata.run(() => this.#image.allocator.giveBack(run.first, run.count)),
    };
  }

  #link(cluster: number, place: number, start: number, end: number, withData = true): Promise<void> {
    const { geometry, l2, metadata } = this.#image;
    const { entries } = this.#locator;
    return metadata.run(async () => {
      const slice = await this.#tables.own(cluster);
      for (let at = cluster, to = place; at < end; at += this.#clusterSize, to += this.#clusterSize) {
        const index = this.#locator.indexInSlice(at);
        if (!this.#tables.ownsPlace(slice, index) && this.#tables.hasContents(slice, index)) {
          this.#tables.giveUp(slice, index);
          entries.setEmpty(slice.view, index, false);
        }
        const first = Math.max(0, Math.floor((start - at) / this.#subclusterSize));
        const last = Math.min(geometry.subclusters, Math.ceil((end - at) / this.#subclusterSize));
        entries.setPlace(slice.view, index, to, first, withData ? last : first);
      }
      l2.markDirty(slice);
    });
  }

  /** Names a place for compressed data of the cluster at `offset`, which has none. */
  linkCompressed(offset: number, place: { offset: number; length: number }): Promise<void> {
    return this.#image.metadata.run(async () => {
      const slice = await this.#tables.own(offset);
      this.#locator.entries.setCompressed(slice.view, this.#locator.indexInSlice(offset), place);
      this.#image.l2.markDirty(slice);
    });
  }
}
