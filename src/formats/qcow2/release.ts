/** Taking guest clusters their place away: they read as zeros, and what nobody refers to any more becomes free at the next flush. */

import type { Slice } from "../table-cache.js";
import type { ActiveTables } from "./active-tables.js";
import type { Qcow2Image } from "./image.js";
import { UNALLOCATED, ZERO, ZERO_PLACED } from "./l2-entries.js";
import type { ClusterLocator } from "./locate.js";

/** `drop`: nobody sees what lies below any more, because the disk ends before. */
type How = "zero" | "discard" | "drop";

export class ClusterReleaser {
  readonly #image: Qcow2Image;
  readonly #locator: ClusterLocator;
  readonly #tables: ActiveTables;

  constructor(image: Qcow2Image, locator: ClusterLocator, tables: ActiveTables) {
    this.#image = image;
    this.#locator = locator;
    this.#tables = tables;
  }

  /**
   * Whole subclusters from `offset` on. Resolves to how many bytes are done; fewer than asked for when zeros must be written at the
   * next one. `discard` leaves out what it cannot do.
   */
  release(offset: number, length: number, how: How): Promise<number> {
    return this.#image.metadata.run(async () => {
      let at = offset;
      while (at < offset + length) {
        await this.#image.makeRoom();
        const next = await this.#step(at, offset + length, how);
        if (next === at) break;
        at = next;
      }
      return at - offset;
    });
  }

  /** As far as one slice reaches. Resolves to where it got to. */
  async #step(offset: number, end: number, how: How): Promise<number> {
    const { l1, l2, geometry } = this.#image;
    const l1Index = Math.floor(offset / geometry.l2Reach);
    if (l1.target(l1Index) === 0) {
      if (!this.#hides(offset, how) || (how === "discard" && !this.#canHide))
        return Math.min(end, (l1Index + 1) * geometry.l2Reach);
      if (!this.#canHide) return offset;
    }
    const slice = await this.#tables.own(offset);
    l2.markDirty(slice);
    let at = offset;
    for (let index = this.#locator.indexInSlice(offset); at < end && index < this.#locator.perSlice; index++) {
      const cluster = at - (at % geometry.clusterSize);
      const clusterEnd = Math.min(cluster + geometry.clusterSize, this.#image.size);
      const to = Math.min(end, clusterEnd);
      const whole = at === cluster && to === clusterEnd;
      const done = whole ? this.#cluster(slice, index, at, how) : this.#parts(slice, index, at, to, how);
      if (done) await this.#image.dataFile?.discard(at, to - at);
      else if (how === "zero") break;
      at = to;
    }
    return at;
  }

  /** Version 2 has no way to say that a cluster is zero. */
  get #canHide(): boolean {
    return this.#image.geometry.version >= 3;
  }

  /** Whether the backing file would show if the cluster had no entry. */
  #hides(offset: number, how: How): boolean {
    const { backing } = this.#image;
    return how !== "drop" && backing !== null && offset < backing.size;
  }

  #cluster(slice: Slice, index: number, offset: number, how: How): boolean {
    const hides = this.#hides(offset, how);
    if (hides && !this.#canHide) return false;
    const { entries } = this.#locator;
    if (!this.#image.geometry.extendedL2) {
      const kind = entries.kind(slice.view, index, 0);
      if (kind === ZERO || (kind === UNALLOCATED && !hides)) return true;
      if (kind === ZERO_PLACED && how === "zero") return true; // it keeps the place that somebody reserved
    }
    this.#tables.giveUp(slice, index);
    entries.setEmpty(slice.view, index, hides);
    return true;
  }

  /** Subclusters; the cluster keeps its place. */
  #parts(slice: Slice, index: number, offset: number, end: number, how: How): boolean {
    const { geometry } = this.#image;
    const { entries } = this.#locator;
    if (entries.isCompressed(slice.view, index)) return false;
    const first = (offset % geometry.clusterSize) / geometry.subclusterSize;
    const count = Math.ceil((end - offset) / geometry.subclusterSize);
    if (this.#hides(offset, how) || entries.hasPlace(slice.view, index))
      entries.setZeroParts(slice.view, index, first, first + count);
    return true;
  }
}
