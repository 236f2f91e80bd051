/**
 * Internal snapshots. All of them hold the image's `changes` over the whole disk and its `metadata`: no guest write is under way.
 * Version 3 images are marked dirty meanwhile, so that the next one who opens them for writing mends counts and flags; of what a cut
 * leaves, nothing is lost without that either:
 *
 *   create   refcounts go up, then COPIED flags go, then the header shows the new snapshot table
 *            before the last step: higher counts than needed, so that the disk is copied on write for nothing
 *   delete   the header shows the table without it, then refcounts go down, then COPIED flags come
 *   apply    refcounts of the snapshot go up, then the header shows a copy of its L1 table, then those of the old disk go down
 */
import { DiskError } from "../../errors.js";
import { findSnapshot } from "../extensions.js";
import { syncCopiedFlags } from "./copied-flags.js";
import { factsOf } from "./facts.js";
import { l1EntriesFor } from "./geometry.js";
import { Qcow2Image } from "./image.js";
import { INCOMPATIBLE, MAX_SNAPSHOTS } from "./layout.js";
import { writeTables } from "./metadata.js";
import { PointerTable } from "./pointer-table.js";
import { countTables, giveUpTables } from "./reached.js";
import { encodeSnapshots, readSnapshots, type Snapshot } from "./snapshot-table.js";

export class Snapshots {
  readonly #image: Qcow2Image;
  readonly #now: () => number;
  #list: Snapshot[];
  /** Bytes of the table on the disk. */
  #size: number;

  constructor(image: Qcow2Image, table: { snapshots: Snapshot[]; size: number }, now: () => number) {
    this.#image = image;
    this.#now = now;
    this.#list = table.snapshots;
    this.#size = table.size;
  }

  static async load(image: Qcow2Image, now: () => number): Promise<Snapshots> {
    return new Snapshots(image, await readSnapshots(image), now);
  }

  get list(): readonly Snapshot[] {
    return this.#list;
  }

  /** By id, else by name. */
  find(name: string): Snapshot {
    const found = findSnapshot(factsOf(this.#image, this.#list, null).snapshots, name);
    if (!found)
      throw new DiskError(
        "NOT_FOUND",
        `Cannot find snapshot ${JSON.stringify(name)} in ${this.#image.label}: ${this.#list.length === 0 ? "it has none" : `it has ${this.#list.map((one) => JSON.stringify(one.name)).join(", ")}`}`,
      );
    return this.#list.find(({ id }) => id === found.id)!;
  }

  create(name: string): Promise<void> {
    const image = this.#image;
    if (image.hasDataFile)
      throw new DiskError("UNSUPPORTED", `Cannot take a snapshot of ${image.label}: its data is in an external file`);
    if (this.#list.some((one) => one.name === name))
      throw new DiskError(
        "DENIED",
        `Cannot create snapshot ${JSON.stringify(name)} in ${image.label}: it exists already`,
      );
    if (this.#list.length >= MAX_SNAPSHOTS)
      throw new DiskError("UNSUPPORTED", `Cannot take a snapshot of ${image.label}: it has ${MAX_SNAPSHOTS} already`);
    return this.#exclusively(async () => {
      const { l1, geometry, file, allocator } = image;
      await countTables(image, l1);
      const run = await allocator.takeRow(Math.ceil((l1.entries * 8) / geometry.clusterSize));
      await file.write(run.first * geometry.clusterSize, l1.bytes);
      await writeTables(image);
      await syncCopiedFlags(image, { mend: true });
      await writeTables(image);
      const milliseconds = this.#now();
      await this.#replaceTable([
        ...this.#list,
        {
          l1TableOffset: run.first * geometry.clusterSize,
          l1Size: l1.entries,
          id: this.#nextId(),
          name,
          seconds: Math.floor(milliseconds / 1000),
          nanoseconds: (milliseconds % 1000) * 1e6,
          vmClock: 0n,
          vmStateSize: 0n,
          diskSize: image.size,
          moreExtra: new Uint8Array(0),
        },
      ]);
    });
  }

  delete(name: string): Promise<void> {
    const image = this.#image;
    const snapshot = this.find(name);
    return this.#exclusively(async () => {
      const l1 = await this.#l1Of(snapshot);
      await this.#replaceTable(this.#list.filter((one) => one !== snapshot));
      await giveUpTables(image, l1);
      await writeTables(image);
      await syncCopiedFlags(image, { mend: true });
    });
  }

  /** The disk gets the snapshot's size, too. */
  apply(name: string): Promise<void> {
    const image = this.#image;
    const snapshot = this.find(name);
    return this.#exclusively(async () => {
      const { geometry, allocator, file } = image;
      const size = snapshot.diskSize ?? image.size;
      const source = await this.#l1Of(snapshot);
      await countTables(image, source);
      const entries = Math.max(source.entries, l1EntriesFor(size, geometry), 1);
      const clusters = Math.ceil((entries * 8) / geometry.clusterSize);
      const run = await allocator.takeRow(clusters);
      const table = new PointerTable(run.first * geometry.clusterSize, new Uint8Array(entries * 8));
      for (let i = 0; i < source.entries; i++) if (source.target(i) !== 0) table.set(i, source.target(i), false);
      await file.write(table.offset, table.bytes);
      await writeTables(image);
      await image.writeHeader({ l1TableOffset: table.offset, l1Size: entries, size });
      await image.barrier();
      const old = image.l1;
      image.l1 = table;
      await giveUpTables(image, old);
      await writeTables(image);
      await syncCopiedFlags(image, { mend: true });
    });
  }

  /** The L1 table of a snapshot, with nothing but entries that can be. */
  async #l1Of({ l1TableOffset, l1Size, name }: Snapshot): Promise<PointerTable> {
    const { file, label } = this.#image;
    if (l1Size > 0 && l1TableOffset >= file.size)
      throw new DiskError(
        "CORRUPT",
        `Cannot use ${label}: snapshot ${JSON.stringify(name)} lies behind the file's end`,
      );
    return PointerTable.read(file, l1TableOffset, l1Size);
  }

  /** A snapshot's disk as an image of its own, over the same file and backing. */
  async open(name: string): Promise<Qcow2Image> {
    const { label, file, header, backing } = this.#image;
    const snapshot = this.find(name);
    const l1 = await this.#l1Of(snapshot);
    const size = Math.min(snapshot.diskSize ?? header.size, l1.entries * this.#image.geometry.l2Reach);
    const image = new Qcow2Image(`${label}, snapshot ${JSON.stringify(name)}`, file, { ...header, size }, l1, false);
    image.backing = backing;
    return image;
  }

  #exclusively(task: () => Promise<void>): Promise<void> {
    const image = this.#image;
    return image.changes.run(0, Number.MAX_SAFE_INTEGER, () =>
      image.metadata.run(async () => {
        await writeTables(image);
        const marks = image.geometry.version >= 3 ? INCOMPATIBLE.dirty : 0n;
        await image.writeHeader({ incompatible: image.header.incompatible | marks });
        await image.barrier();
        try {
          await task();
        } catch (error) {
          // Refused before anything had changed but counts, which are as before. Otherwise the mark stays, for a repair.
          if (error instanceof DiskError && error.code === "UNSUPPORTED") await this.#unmark(marks);
          throw error;
        }
        await this.#unmark(marks);
      }),
    );
  }

  async #unmark(marks: bigint): Promise<void> {
    const image = this.#image;
    await writeTables(image);
    await image.writeHeader({ incompatible: image.header.incompatible & ~marks });
    await image.barrier();
  }

  /** The new table is written elsewhere, then the header shows it, then the old one is given up. */
  async #replaceTable(list: Snapshot[]): Promise<void> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    const bytes = encodeSnapshots(list, image.size);
    const clusters = Math.ceil(bytes.length / clusterSize);
    const offset = clusters === 0 ? 0 : (await image.allocator.takeRow(clusters)).first * clusterSize;
    if (clusters > 0) await image.file.write(offset, bytes);
    await writeTables(image);
    const old = { offset: image.header.snapshotsOffset, clusters: Math.ceil(this.#size / clusterSize) };
    await image.writeHeader({ snapshotCount: list.length, snapshotsOffset: offset });
    await image.barrier();
    if (old.clusters > 0) image.allocator.giveUp(old.offset / clusterSize, old.clusters);
    this.#list = list;
    this.#size = bytes.length;
  }

  #nextId(): string {
    const numbers = this.#list.map(({ id }) => Number(id)).filter(Number.isSafeInteger);
    return String(Math.max(0, ...numbers) + 1);
  }
}
