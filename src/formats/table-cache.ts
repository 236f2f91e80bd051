/**
 * Tables of the image in memory, in slices, at most as many as a limit says. A slice in the cache is found without a promise.
 * Changed slices stay until `writeDirty`: whoever changes them decides when, because the order of writes is what a cut leaves.
 */
import type { BlockDevice } from "../block/device.js";

export interface Slice {
  /** Byte in the file. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  dirty: boolean;
  /** Asked for since the clock's hand last came by. */
  used: boolean;
}

/** Neighbours are written together, up to this many bytes. */
const WRITE_AT_ONCE = 1 << 20;

export interface TableCacheOptions {
  /** Looks at a slice that was read, and throws when it must not be used. */
  readonly check?: (slice: Slice) => void;
  /** Where the tables end in the file; a slice that would reach behind is shorter. */
  readonly end?: number;
}

/** What tables lie in: a file. */
export type TableFile = Pick<BlockDevice, "read" | "write">;

export class TableCache {
  readonly #file: TableFile;
  readonly #end: number;
  /** Bytes; the last slice may be shorter. */
  readonly sliceSize: number;
  readonly #most: number;
  readonly #check: ((slice: Slice) => void) | undefined;
  /** In the order of the clock's hand. */
  readonly #slices = new Map<number, Slice>();
  readonly #loading = new Map<number, Promise<Slice>>();
  readonly #dirty = new Set<Slice>();

  /** Keeps `limit` bytes at most, and 16 slices at least. */
  constructor(file: TableFile, sliceSize: number, limit: number, { check, end }: TableCacheOptions = {}) {
    this.#file = file;
    this.#end = end ?? Number.POSITIVE_INFINITY;
    this.sliceSize = sliceSize;
    this.#most = Math.max(16, Math.floor(limit / sliceSize));
    this.#check = check;
  }

  get dirtyBytes(): number {
    return this.#dirty.size * this.sliceSize;
  }

  /** Half of the cache waits to be written: time to do so, for what is dirty cannot make room. */
  get crowded(): boolean {
    return this.#dirty.size > this.#most / 2;
  }

  /** The slice, or a promise of it; `offset` is a multiple of the slice size. */
  get(offset: number): Slice | Promise<Slice> {
    const slice = this.#slices.get(offset);
    if (slice === undefined) return this.#loading.get(offset) ?? this.#load(offset);
    slice.used = true;
    return slice;
  }

  markDirty(slice: Slice): void {
    slice.dirty = true;
    this.#dirty.add(slice);
    this.#slices.set(slice.offset, slice); // it may have been pushed out since it was asked for
  }

  /** Forgets a range whose clusters were given up. */
  forget(offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += this.sliceSize) {
      const slice = this.#slices.get(at);
      if (!slice) continue;
      this.#slices.delete(at);
      this.#dirty.delete(slice);
    }
  }

  /** Forgets everything; nothing may be dirty. */
  clear(): void {
    this.#slices.clear();
  }

  /** Whether a slice of this cluster is in use here. */
  holds(offset: number): boolean {
    return this.#slices.has(offset);
  }

  /** Writes what has changed, in the order of the file. */
  async writeDirty(): Promise<void> {
    const slices = [...this.#dirty].sort((a, b) => a.offset - b.offset);
    for (let i = 0; i < slices.length; ) {
      let end = i + 1;
      while (
        end < slices.length &&
        slices[end]!.offset === slices[end - 1]!.offset + this.sliceSize &&
        (end - i) * this.sliceSize < WRITE_AT_ONCE
      )
        end++;
      const run = slices.slice(i, end);
      for (const slice of run) {
        slice.dirty = false; // before the write: a change meanwhile makes it dirty again
        this.#dirty.delete(slice);
      }
      try {
        await this.#file.write(
          run[0]!.offset,
          run.length === 1 ? run[0]!.bytes : Buffer.concat(run.map((s) => s.bytes)),
        );
      } catch (error) {
        for (const slice of run) this.markDirty(slice);
        throw error;
      }
      i = end;
    }
  }

  #load(offset: number): Promise<Slice> {
    const loading = this.#read(offset).finally(() => this.#loading.delete(offset));
    this.#loading.set(offset, loading);
    return loading;
  }

  async #read(offset: number): Promise<Slice> {
    const bytes = new Uint8Array(Math.min(this.sliceSize, this.#end - offset));
    await this.#file.read(offset, bytes);
    const slice: Slice = { offset, bytes, view: new DataView(bytes.buffer), dirty: false, used: true };
    this.#check?.(slice);
    this.#makeRoom();
    this.#slices.set(offset, slice);
    return slice;
  }

  /** Second chance: what was used since last time goes to the end once more. */
  #makeRoom(): void {
    let tries = this.#slices.size * 2;
    for (const [offset, slice] of this.#slices) {
      if (this.#slices.size < this.#most || tries-- <= 0) return;
      this.#slices.delete(offset);
      if (slice.used || slice.dirty) this.#slices.set(offset, slice);
      slice.used = false;
    }
  }
}
