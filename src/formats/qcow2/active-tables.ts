/** The L2 tables of the active disk, to change: a table that a snapshot shares is copied first. Callers hold the image's metadata lock. */

import type { Slice } from "../table-cache.js";
import type { Qcow2Image } from "./image.js";
import type { ClusterLocator } from "./locate.js";

export class ActiveTables {
  readonly #image: Qcow2Image;
  readonly #locator: ClusterLocator;

  constructor(image: Qcow2Image, locator: ClusterLocator) {
    this.#image = image;
    this.#locator = locator;
  }

  /**
   * The slice with the entry of guest byte `offset`, in a table that belongs to the active disk alone. A new table is in the file,
   * complete, before its L1 entry can be written (metadata.ts).
   */
  async own(offset: number): Promise<Slice> {
    const { l1, l2, file, allocator, geometry } = this.#image;
    const l1Index = Math.floor(offset / geometry.l2Reach);
    const old = this.#locator.l2Table(l1Index);
    if (old !== 0 && l1.copied(l1Index)) return this.#locator.slice(old, offset);
    const run = await allocator.take(1);
    const table = run.first * geometry.clusterSize;
    l2.forget(table, geometry.clusterSize);
    if (old !== 0) {
      const bytes = new Uint8Array(geometry.clusterSize); // a shared table is never changed: the file has all of it
      await file.read(old, bytes);
      await file.write(table, bytes);
      allocator.giveUp(old / geometry.clusterSize, 1);
    } else if (!run.fresh) {
      await file.clear(table, geometry.clusterSize);
    }
    l1.set(l1Index, table, true);
    return this.#locator.slice(table, offset);
  }

  /** The cluster has a place that is its alone: what is zero or unallocated in it can get data there. */
  ownsPlace(slice: Slice, index: number): boolean {
    const { entries } = this.#locator;
    const { view } = slice;
    return !entries.isCompressed(view, index) && entries.copied(view, index) && entries.hasPlace(view, index);
  }

  /** The cluster has bytes somewhere: when it gets another place, all of them move. */
  hasContents({ view }: Slice, index: number): boolean {
    return this.#locator.entries.isCompressed(view, index) || this.#locator.entries.hasPlace(view, index);
  }

  /** What the entry names is named once less, as soon as the table is on the disk. */
  giveUp(slice: Slice, index: number): void {
    const { allocator, hasDataFile, geometry } = this.#image;
    const { entries } = this.#locator;
    if (entries.isCompressed(slice.view, index)) {
      const { offset, length } = entries.compressed(slice.view, index);
      const first = Math.floor(offset / geometry.clusterSize);
      allocator.giveUp(first, Math.floor((offset + length - 1) / geometry.clusterSize) - first + 1);
    } else if (!hasDataFile && entries.hasPlace(slice.view, index)) {
      allocator.giveUp(this.#locator.place(slice, index) / geometry.clusterSize, 1);
    }
  }
}
