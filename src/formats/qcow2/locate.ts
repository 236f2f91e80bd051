/**
 * Where the guest's bytes lie: L1 entry, L2 entry, place. Without a promise, and without reading, when the slice of the L2 table is in
 * the cache; an L1 entry that points nowhere is skipped without looking at any L2 table.
 */
import type { BlockDevice } from "../../block/device.js";
import type { Location } from "../../block/mapped.js";
import { DiskError } from "../../errors.js";
import type { Slice } from "../table-cache.js";
import { CompressedClusters } from "./compressed.js";
import type { Qcow2Image } from "./image.js";
import { COMPRESSED, DATA, type Kind, L2Entries, UNALLOCATED, ZERO_PLACED } from "./l2-entries.js";

export class ClusterLocator {
  readonly #image: Qcow2Image;
  readonly entries: L2Entries;
  readonly compressed: CompressedClusters;
  /** L2 entries in a slice. */
  readonly perSlice: number;
  readonly #clusterSize: number;
  readonly #subclusterSize: number;
  readonly #subclusters: number;
  readonly #l2Entries: number;
  readonly #l2Reach: number;

  constructor(image: Qcow2Image) {
    const { geometry, label, file, header } = image;
    this.#image = image;
    this.entries = new L2Entries(geometry, image.hasDataFile);
    this.compressed = new CompressedClusters(file, label, header.compressionType, geometry.clusterSize);
    this.perSlice = geometry.sliceSize / geometry.l2EntrySize;
    this.#clusterSize = geometry.clusterSize;
    this.#subclusterSize = geometry.subclusterSize;
    this.#subclusters = geometry.subclusters;
    this.#l2Entries = geometry.l2Entries;
    this.#l2Reach = geometry.l2Reach;
  }

  locate(offset: number, length: number): Location | Promise<Location> {
    const l1Index = Math.floor(offset / this.#l2Reach);
    const table = this.l2Table(l1Index);
    if (table === 0) return this.#below(offset, this.#untilTable(l1Index, offset, length));
    const slice = this.slice(table, offset);
    if (slice instanceof Promise) return slice.then((loaded) => this.#locateIn(loaded, offset, length));
    return this.#locateIn(slice, offset, length);
  }

  /** Byte of an L2 table, 0 without one. Throws `CORRUPT` for a place where none can be. */
  l2Table(l1Index: number): number {
    const table = this.#image.l1.target(l1Index);
    if (table % this.#clusterSize !== 0 || table > this.#image.file.size)
      throw this.#wrongPlace(`L2 table ${l1Index}`, table);
    return table;
  }

  /** The slice of an L2 table with the entry of guest byte `offset`. */
  slice(table: number, offset: number): Slice | Promise<Slice> {
    const { geometry, l2 } = this.#image;
    const entry = Math.floor(offset / this.#clusterSize) % this.#l2Entries;
    return l2.get(table + Math.floor(entry / this.perSlice) * geometry.sliceSize);
  }

  /** The entry's number in its slice. */
  indexInSlice(offset: number): number {
    return Math.floor(offset / this.#clusterSize) % this.perSlice;
  }

  /** Byte where the cluster's own place begins; checked. */
  place(slice: Slice, index: number): number {
    const place = this.entries.place(slice.view, index);
    if (place % this.#clusterSize !== 0 || (place > this.#image.file.size && !this.#image.hasDataFile))
      throw this.#wrongPlace("a cluster", place);
    return place;
  }

  #locateIn(slice: Slice, offset: number, length: number): Location {
    const index = this.indexInSlice(offset);
    const inCluster = offset % this.#clusterSize;
    const sub = Math.floor(inCluster / this.#subclusterSize);
    const kind = this.entries.kind(slice.view, index, sub);
    if (kind === DATA) return this.#data(slice, index, sub, offset, length);
    if (kind === COMPRESSED) {
      const device = this.compressed.device(this.entries.compressed(slice.view, index));
      return { kind: "data", device, offset: inCluster, length: this.#clusterSize - inCluster, shared: true, depth: 0 };
    }
    const run = this.#run(slice, index, sub, offset, length, kind);
    if (kind === UNALLOCATED) return this.#below(offset, run);
    if (kind !== ZERO_PLACED) return { kind: "zero", length: run, present: true };
    return { kind: "zero", length: run, present: true, hostOffset: this.place(slice, index) + inCluster };
  }

  #data(slice: Slice, index: number, sub: number, offset: number, length: number): Location {
    const place = this.place(slice, index);
    const inCluster = offset % this.#clusterSize;
    const start = place + inCluster;
    if (this.#image.hasDataFile && start !== offset)
      throw this.#wrongPlace("a cluster of the external data file", place);
    const run = this.#run(slice, index, sub, offset, length, DATA);
    const device = this.#image.dataFile ?? this.#image.file.deviceUpTo(start + Math.min(run, length));
    const shared = !this.entries.copied(slice.view, index);
    return { kind: "data", device, offset: start, length: run, shared, depth: 0 };
  }

  /** Bytes of one kind from `offset` on, in places that follow each other; no further than needed for `length`, or than the slice. */
  #run(slice: Slice, index: number, sub: number, offset: number, length: number, kind: Kind): number {
    const { entries } = this;
    const { view } = slice;
    let run = this.#subclusterSize - (offset % this.#subclusterSize);
    if (run >= length) return run;
    const copied = entries.copied(view, index);
    let place = kind === DATA || kind === ZERO_PLACED ? entries.place(view, index) : -1;
    for (let [i, s] = [index, sub]; run < length; run += this.#subclusterSize) {
      if (++s === this.#subclusters) {
        s = 0;
        if (++i === this.perSlice) break;
        if (place >= 0) place += this.#clusterSize;
        if (place >= 0 && (entries.place(view, i) !== place || entries.copied(view, i) !== copied)) break;
      }
      if (entries.kind(view, i, s) !== kind) break;
    }
    return run;
  }

  /** Bytes from `offset` on without an L2 table. */
  #untilTable(l1Index: number, offset: number, length: number): number {
    let next = l1Index + 1;
    while (next * this.#l2Reach < offset + length && this.#image.l1.target(next) === 0) next++;
    return next * this.#l2Reach - offset;
  }

  /** What unallocated clusters show. */
  #below(offset: number, length: number): Location {
    const backing: BlockDevice | null = this.#image.backing;
    if (!backing || offset >= backing.size) return { kind: "zero", length };
    return { kind: "data", device: backing, offset, length: Math.min(length, backing.size - offset), shared: true };
  }

  #wrongPlace(what: string, offset: number): DiskError {
    const { label, file } = this.#image;
    return new DiskError(
      "CORRUPT",
      `Cannot use ${label}: ${what} is at byte ${offset}, allowed multiples of ${this.#clusterSize} up to ${file.size}`,
      { details: { offset } },
    );
  }
}
