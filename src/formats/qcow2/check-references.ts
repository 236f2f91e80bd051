/**
 * Counts what all tables of an image refer to, and judges what they say on the way. Each L1 table is read once, each L2 table once,
 * whoever refers to them and how often: time follows the bytes that are there, not what a hostile image says.
 */
import { readBitmaps } from "./bitmaps.js";
import type { Findings } from "./check-report.js";
import type { Qcow2Image } from "./image.js";
import { L2Entries } from "./l2-entries.js";
import {
  BITMAP_IN_USE,
  COMPRESSED_BIT,
  RESERVED_BITMAP_BITS,
  RESERVED_L1_BITS,
  RESERVED_L2_BITS,
  RESERVED_REFCOUNT_TABLE_BITS,
} from "./layout.js";
import { PointerTable } from "./pointer-table.js";
import { ReferenceCounts } from "./reference-counts.js";
import { type Reference, readL2Table, referencesOf } from "./references.js";
import { readSnapshots } from "./snapshot-table.js";

/** A bitmap of more entries describes no disk: 2^53 bytes in bits of 512 bytes need fewer in all but the smallest clusters. */
const MOST_BITMAP_ENTRIES = 1 << 23;

export class ReferenceCheck {
  readonly counts: ReferenceCounts;
  readonly #image: Qcow2Image;
  readonly #findings: Findings;
  readonly #signal: AbortSignal | undefined;
  readonly #entries: L2Entries;
  /** How many L1 entries point to each L2 table that was not looked at yet. */
  readonly #tables: ReferenceCounts;
  readonly #l1Tables = new Set<number>();
  /** End of the table's last cluster in the file, to tell fragments; 0 before the first. */
  #lastEnd = 0;

  constructor(image: Qcow2Image, findings: Findings, signal: AbortSignal | undefined) {
    this.#image = image;
    this.#findings = findings;
    this.#signal = signal;
    this.#entries = new L2Entries(image.geometry, image.hasDataFile);
    this.counts = new ReferenceCounts(image.label);
    this.#tables = new ReferenceCounts(image.label);
  }

  /** Everything but the refcounts themselves. */
  async countAll(onProgress?: (done: number, total: number) => void): Promise<void> {
    const { l1, geometry } = this.#image;
    this.mark(0, geometry.clusterSize, "the header");
    this.#countL1(l1, "the L1 table");
    await this.#countSnapshots();
    await this.#countBitmaps();
    for (let i = 0; i < l1.entries; i++) {
      this.#signal?.throwIfAborted();
      await this.#countL2(l1.target(i), true);
      if (i % 64 === 0) onProgress?.(i, l1.entries);
    }
    for (const cluster of [...this.#tables.clusters()]) await this.#countL2(cluster * geometry.clusterSize, false);
  }

  /** The refcount table and its blocks. Entries that cannot be are ignored from now on. */
  countRefcounts(): void {
    const { table } = this.#image.refcounts;
    const { clusterSize } = this.#image.geometry;
    this.mark(table.offset, table.bytes.length, "the refcount table");
    const blocks = new ReferenceCounts(this.#image.label);
    for (let i = 0; i < table.entries; i++) {
      const offset = table.target(i);
      if (offset === 0) continue;
      const what = `refcount block ${i} at ${offset}`;
      const usable = this.#aligned(offset, what) && this.mark(offset, clusterSize, what);
      if (usable && table.has(i, RESERVED_REFCOUNT_TABLE_BITS))
        this.#findings.corruption(`${what}: reserved bits are set`);
      if (usable && blocks.get(offset / clusterSize) === 0) blocks.add(offset / clusterSize, 1);
      else table.ignore(i);
    }
  }

  /** Refers to a range; false when it is not in the file. The last cluster of a file may be cut short, or just missing. */
  mark(offset: number, length: number, what: string, weight = 1): boolean {
    const { clusterSize } = this.#image.geometry;
    if (length === 0) return true;
    if (offset + length - this.#image.file.size > clusterSize) {
      this.#findings.corruption(`${what} (${length} bytes at ${offset}) lies behind the file's end`);
      return false;
    }
    const last = Math.floor((offset + length - 1) / clusterSize);
    for (let cluster = Math.floor(offset / clusterSize); cluster <= last; cluster++) this.counts.add(cluster, weight);
    return true;
  }

  #aligned(offset: number, what: string): boolean {
    if (offset % this.#image.geometry.clusterSize === 0) return true;
    this.#findings.corruption(`${what} is not at the begin of a cluster`);
    return false;
  }

  #countL1(l1: PointerTable, what: string): void {
    const { clusterSize } = this.#image.geometry;
    if (l1.entries === 0 || !this.mark(l1.offset, l1.bytes.length, what)) return;
    if (this.#l1Tables.has(l1.offset)) return; // twice the same: told by its count
    this.#l1Tables.add(l1.offset);
    for (let i = 0; i < l1.entries; i++) {
      const table = l1.target(i);
      if (table === 0) continue;
      const name = `L2 table ${i} of ${what} at ${table}`;
      if (l1.has(i, RESERVED_L1_BITS)) this.#findings.corruption(`${name}: reserved bits are set`);
      if (this.#aligned(table, name) && this.mark(table, clusterSize, name)) this.#tables.add(table / clusterSize, 1);
    }
  }

  async #countL2(table: number, active: boolean): Promise<void> {
    const { geometry, file, hasDataFile } = this.#image;
    if (table === 0 || table % geometry.clusterSize !== 0) return;
    const weight = this.#tables.take(table / geometry.clusterSize);
    if (weight === 0) return;
    const view = await readL2Table(file, geometry, table);
    if (!view) return;
    this.#lastEnd = 0;
    for (const reference of referencesOf(view, this.#entries, geometry)) {
      const what = `the cluster of entry ${reference.index} of the L2 table at ${table}`;
      this.#judge(view, reference, what);
      if (!hasDataFile && (reference.compressed || this.#aligned(reference.offset, what)))
        this.mark(reference.offset, reference.length, what, weight);
      if (active) this.#count(reference);
    }
  }

  /** The numbers that tell how the disk lies in the file. */
  #count({ offset, length, compressed }: Reference): void {
    const findings = this.#findings;
    findings.allocated++;
    if (compressed) {
      findings.compressed++;
      findings.fragmented++; // as qemu-img: it cannot be read together with its neighbours
      return;
    }
    if (this.#lastEnd !== 0 && offset !== this.#lastEnd) findings.fragmented++;
    this.#lastEnd = offset + length;
  }

  #judge(view: DataView, { index, compressed }: Reference, what: string): void {
    const { geometry } = this.#image;
    const at = index * geometry.l2EntrySize;
    const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
    const wrong = (found: string) => this.#findings.corruption(`${what}: ${found}`);
    if (!compressed && (high & RESERVED_L2_BITS.high || low & RESERVED_L2_BITS.low)) wrong("reserved bits are set");
    if (!geometry.extendedL2) return;
    const [zero, allocated] = [view.getUint32(at + 8), view.getUint32(at + 12)];
    if (high & COMPRESSED_BIT.high && (zero || allocated)) wrong("it is compressed and has subclusters");
    else if ((zero & allocated) !== 0) wrong("subclusters are both allocated and zero");
  }

  async #countSnapshots(): Promise<void> {
    const { header, file } = this.#image;
    if (header.snapshotCount === 0) return;
    const { snapshots, size } = await readSnapshots(this.#image);
    this.mark(header.snapshotsOffset, size, "the snapshot table");
    for (const { name, l1TableOffset, l1Size } of snapshots) {
      const what = `the L1 table of snapshot ${JSON.stringify(name)}`;
      if (l1Size === 0) continue;
      if (
        l1TableOffset + l1Size * 8 - file.size > this.#image.geometry.clusterSize ||
        this.#l1Tables.has(l1TableOffset)
      )
        this.mark(l1TableOffset, l1Size * 8, what);
      else this.#countL1(await PointerTable.read(file, l1TableOffset, l1Size), what);
    }
  }

  async #countBitmaps(): Promise<void> {
    const { file, geometry } = this.#image;
    const directory = await readBitmaps(this.#image);
    if (!directory) return;
    this.mark(directory.offset, directory.bytes.length, "the bitmap directory");
    for (const { name, tableOffset, tableSize, flags } of directory.bitmaps) {
      const what = `bitmap ${JSON.stringify(name)}`;
      if (tableSize > MOST_BITMAP_ENTRIES) {
        this.#findings.corruption(`${what} has ${tableSize} entries`);
        continue;
      }
      if (!this.#aligned(tableOffset, what) || !this.mark(tableOffset, tableSize * 8, what)) continue;
      const table = await PointerTable.read(file, tableOffset, tableSize);
      for (let i = 0; i < table.entries; i++) {
        const offset = table.target(i);
        if (table.has(i, RESERVED_BITMAP_BITS) && !(flags & BITMAP_IN_USE))
          this.#findings.corruption(`${what}: reserved bits of entry ${i} are set`);
        if (offset !== 0 && this.#aligned(offset, what)) this.mark(offset, geometry.clusterSize, what);
      }
    }
  }
}
