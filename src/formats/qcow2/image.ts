/**
 * An open image: the header, the tables, and who may change what.
 *
 *   changes    held by guest writes over their range; whoever changes the whole disk (a snapshot, a new size) holds all of it
 *   metadata   held while tables change, and while they are written
 *
 * Never take `changes` while `metadata` is held.
 */
import type { BlockDevice } from "../../block/device.js";
import { RangeLock } from "../../block/range-lock.js";
import { Serial } from "../../block/serial.js";
import { DiskError } from "../../errors.js";
import { type Slice, TableCache } from "../table-cache.js";
import { ClusterAllocator } from "./allocate.js";
import { type Geometry, geometryOf } from "./geometry.js";
import type { GrowingFile } from "./growing-file.js";
import { encodeHeader, type Qcow2Header } from "./header.js";
import { L2Entries } from "./l2-entries.js";
import { AUTOCLEAR, INCOMPATIBLE } from "./layout.js";
import { hasDirtyTables, writeTables } from "./metadata.js";
import { PointerTable } from "./pointer-table.js";
import { Refcounts } from "./refcounts.js";

/** L2 tables are kept in memory up to this many bytes, whatever the size of the disk: those of 128 GiB in clusters of 64 KiB. */
export const L2_CACHE_BYTES = 16 << 20;

export class Qcow2Image {
  readonly label: string;
  readonly file: GrowingFile;
  readonly geometry: Geometry;
  readonly writable: boolean;
  readonly changes = new RangeLock();
  readonly metadata = new Serial();
  readonly l2: TableCache;
  header: Qcow2Header;
  l1: PointerTable;
  /** What unallocated clusters show; null: zeros. */
  backing: BlockDevice | null = null;
  /** Holds the guest's clusters in place of the image's own file. */
  dataFile: BlockDevice | null = null;
  /** Set once the image has been opened for writing. */
  #refcounts: Refcounts | undefined;
  #allocator: ClusterAllocator | undefined;

  constructor(label: string, file: GrowingFile, header: Qcow2Header, l1: PointerTable, writable: boolean) {
    this.label = label;
    this.file = file;
    this.header = header;
    this.l1 = l1;
    this.writable = writable;
    this.geometry = geometryOf({ ...header, extendedL2: (header.incompatible & INCOMPATIBLE.extendedL2) !== 0n });
    const check = (slice: Slice) => this.#checkPlaces(slice);
    const options = writable && !this.hasDataFile ? { check } : {};
    this.l2 = new TableCache(file, this.geometry.sliceSize, L2_CACHE_BYTES, options);
  }

  get size(): number {
    return this.header.size;
  }

  /** The guest's clusters lie elsewhere, at their own offsets. */
  get hasDataFile(): boolean {
    return (this.header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
  }

  /** That file is the disk by itself, without the image's tables. */
  get dataFileIsRaw(): boolean {
    return this.hasDataFile && (this.header.autoclear & AUTOCLEAR.rawDataFile) !== 0n;
  }

  get refcounts(): Refcounts {
    return (this.#refcounts ??= this.#openRefcounts());
  }

  /** The table must have been read: see `loadRefcounts`. */
  #openRefcounts(): Refcounts {
    throw new TypeError(`Cannot use the refcounts of ${this.label}: they are not loaded`);
  }

  async loadRefcounts(): Promise<Refcounts> {
    if (!this.#refcounts) {
      const { refcountTableOffset, refcountTableClusters } = this.header;
      const entries = (refcountTableClusters * this.geometry.clusterSize) / 8;
      const table = await PointerTable.read(this.file, refcountTableOffset, entries);
      this.#refcounts = new Refcounts(this.label, this.file, this.geometry, table);
    }
    return this.#refcounts;
  }

  /** Forgets the refcounts in memory, because the table on the disk is another one now. */
  async reloadRefcounts(): Promise<void> {
    this.#refcounts = undefined;
    this.#allocator = undefined;
    await this.loadRefcounts();
  }

  get allocator(): ClusterAllocator {
    return (this.#allocator ??= new ClusterAllocator(
      this.refcounts,
      (old) => this.#switchRefcountTable(old),
      (first, count) => this.refuseMetadata(first * this.geometry.clusterSize, count * this.geometry.clusterSize),
    ));
  }

  /** Writes changed tables when so much waits that they crowd the caches. The caller holds `metadata`. */
  async makeRoom(): Promise<void> {
    if (this.l2.crowded || this.refcounts.cache.crowded || this.allocator.crowded) await writeTables(this);
  }

  async flush(): Promise<void> {
    if (this.writable && hasDirtyTables(this)) await this.metadata.run(() => writeTables(this));
    else await this.barrier();
  }

  /** What was written before is on the disk before anything that is written later. */
  async barrier(): Promise<void> {
    await Promise.all([this.file.host.flush(), this.dataFile?.flush()]);
  }

  /** Writes the header with changes: its fixed fields lie in the first sector, so a cut leaves the old or the new ones. */
  async writeHeader(changes: Partial<Qcow2Header>): Promise<void> {
    const header = { ...this.header, ...changes };
    await this.file.write(0, encodeHeader(header, this.label));
    this.header = header;
  }

  /** Whether entries allow to write in place where tables lie: then this part of the disk is not to be used. */
  #checkPlaces({ view }: Slice): void {
    const { l2EntrySize, clusterSize } = this.geometry;
    const entries = new L2Entries(this.geometry, false);
    for (let index = 0; index < view.byteLength / l2EntrySize; index++)
      if (entries.copied(view, index) && !entries.isCompressed(view, index) && entries.hasPlace(view, index))
        this.refuseMetadata(entries.place(view, index), clusterSize);
  }

  /** Throws when a range of the file holds tables: an entry that says it is the guest's is wrong, and using it would destroy them. */
  refuseMetadata(offset: number, length: number): void {
    const { clusterSize } = this.geometry;
    const table = this.#refcounts?.table;
    const overlaps = (start: number, size: number) => offset < start + size && start < offset + length;
    const found = overlaps(0, clusterSize)
      ? "the header"
      : overlaps(this.l1.offset, this.l1.bytes.length)
        ? "the L1 table"
        : table && overlaps(table.offset, table.bytes.length)
          ? "the refcount table"
          : this.l2.holds(offset)
            ? "an L2 table"
            : this.#refcounts?.cache.holds(offset)
              ? "a refcount block"
              : null;
    if (found)
      throw new DiskError(
        "CORRUPT",
        `Cannot use ${this.label}: the cluster at byte ${offset} is to hold data, but ${found} lies there; repair the image first`,
        { details: { offset } },
      );
  }

  /**
   * The new refcount table and its blocks are written; the header is switched between two barriers: a cut leaves the old table, with
   * the new one leaked at most, or the new one.
   */
  async #switchRefcountTable(old: PointerTable): Promise<void> {
    const { clusterSize } = this.geometry;
    const { table, cache } = this.refcounts;
    await cache.writeDirty();
    await this.barrier();
    await this.writeHeader({
      refcountTableOffset: table.offset,
      refcountTableClusters: table.bytes.length / clusterSize,
    });
    await this.barrier();
    this.allocator.giveUp(old.offset / clusterSize, old.bytes.length / clusterSize);
  }
}
