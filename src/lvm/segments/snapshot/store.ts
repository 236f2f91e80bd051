/**
 * A snapshot's store, opened: which chunks it has, where the next one goes, and how it becomes durable. One writer; readers of other
 * processes follow it with `refresh`.
 *
 * A writer fills chunks that `allocate` gave it and then commits them, many at once:
 *
 *   data written -> flush -> [next area zeroed, when this one becomes full -> flush] -> exceptions written -> flush
 *
 * A cut before the exceptions are written leaves them out: their chunks were never used, or are used again. A cut within them leaves
 * some out; those behind the first that is missing are no part of the list, and the next writer clears them before it adds one.
 */
import type { BlockDevice } from "../../../block/device.js";
import { isZero } from "../../../bytes/align.js";
import { DiskError } from "../../../errors.js";
import { SECTOR } from "../../layout.js";
import { ChunkMap } from "./chunk-map.js";
import {
  areaChunk,
  chunkSectors,
  dataChunkFrom,
  EXCEPTION,
  exceptionsPerArea,
  isChunkSize,
  SNAPSHOT_EXCEPTION,
  SNAPSHOT_HEADER,
} from "./layout.js";

export interface NewException {
  readonly oldChunk: number;
  readonly newChunk: number;
}

const OLD = SNAPSHOT_EXCEPTION.fields.oldChunk.offset;
const NEW = SNAPSHOT_EXCEPTION.fields.newChunk.offset;

export class ExceptionStore {
  readonly cow: BlockDevice;
  readonly chunkSize: number;
  readonly perArea: number;
  /** False: it overflowed, or its bytes make no sense. */
  valid = true;
  readonly #chunks: number;
  readonly #map = new ChunkMap();
  /** Exceptions of the areas before the current one fill them. */
  #area = 0;
  #count = 0;
  #current: Buffer;
  #nextFree: number;
  /** Exceptions of the list, and of those that are being filled. */
  #reserved = 0;
  #queue: { readonly exceptions: readonly NewException[]; done(error?: unknown): void }[] = [];
  #committing = false;
  #refreshing: Promise<void> = Promise.resolve();
  #nextRefresh: Promise<void> | null = null;

  private constructor(cow: BlockDevice, chunkSize: number) {
    this.cow = cow;
    this.chunkSize = chunkSize;
    this.perArea = exceptionsPerArea(chunkSize);
    this.#chunks = Math.floor(cow.size / chunkSize);
    this.#current = Buffer.alloc(chunkSize);
    this.#nextFree = dataChunkFrom(0, this.perArea);
  }

  /** `chunkSize` is what the group says; the store's own header decides. Throws `CORRUPT` for bytes that are no store. */
  static async open(cow: BlockDevice, chunkSize: number, writable: boolean): Promise<ExceptionStore> {
    const header = await readHeader(cow);
    const store = new ExceptionStore(cow, header?.chunkSize ?? chunkSize);
    if (!header) {
      if (writable) await formatStore(cow, chunkSize);
      return store;
    }
    store.valid = header.valid;
    if (store.valid) await store.#load();
    if (store.valid && writable) await store.#clearBehindEnd();
    return store;
  }

  /** The chunk of the store that has an origin's chunk; 0: none has. */
  find(chunk: number): number {
    return this.#map.get(chunk);
  }

  /** How many exceptions there are. */
  get length(): number {
    return this.#area * this.perArea + this.#count;
  }

  /** A chunk for data that is to be committed; 0: the store is full. The kernel needs an area behind one that is full. */
  allocate(): number {
    const place = this.#nextFree;
    const index = this.#reserved;
    const fillsArea = index % this.perArea === this.perArea - 1;
    const nextArea = areaChunk(Math.floor(index / this.perArea) + 1, this.perArea);
    if (place >= this.#chunks || (fillsArea && nextArea >= this.#chunks)) return 0;
    this.#reserved++;
    this.#nextFree = dataChunkFrom(place + 1, this.perArea);
    return place;
  }

  /** Resolves when the exceptions, and before them their data, are durable. What is asked for meanwhile is committed together. */
  commit(exceptions: readonly NewException[]): Promise<void> {
    if (exceptions.length === 0) return Promise.resolve();
    const committed = new Promise<void>((resolve, reject) => {
      this.#queue.push({ exceptions, done: (error) => (error === undefined ? resolve() : reject(error as Error)) });
    });
    if (!this.#committing) void this.#commitQueue();
    return committed;
  }

  async #commitQueue(): Promise<void> {
    this.#committing = true;
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0);
      const error = await this.#append(batch.flatMap(({ exceptions }) => exceptions)).then(
        () => undefined,
        (failure: unknown) => failure ?? new Error("failed"),
      );
      for (const { done } of batch) done(error);
    }
    this.#committing = false;
  }

  async #append(exceptions: readonly NewException[]): Promise<void> {
    for (let at = 0; at < exceptions.length; ) {
      if (!this.valid) throw this.#invalidError();
      const first = this.#count;
      const part = exceptions.slice(at, at + this.perArea - first);
      for (const [i, { oldChunk, newChunk }] of part.entries()) this.#encode(first + i, oldChunk, newChunk);
      if (first + part.length === this.perArea) await this.#zeroArea(this.#area + 1);
      await this.cow.flush();
      await this.#writeEntries(first, first + part.length);
      await this.cow.flush();
      for (const { oldChunk, newChunk } of part) this.#map.set(oldChunk, newChunk);
      this.#count += part.length;
      if (this.#count === this.perArea) this.#beginArea();
      at += part.length;
    }
  }

  #encode(index: number, oldChunk: number, newChunk: number): void {
    this.#current.writeBigUInt64LE(BigInt(oldChunk), index * EXCEPTION + OLD);
    this.#current.writeBigUInt64LE(BigInt(newChunk), index * EXCEPTION + NEW);
  }

  /** Whole sectors: an exception never lies in two. */
  async #writeEntries(first: number, end: number): Promise<void> {
    const from = Math.floor((first * EXCEPTION) / SECTOR) * SECTOR;
    const to = Math.ceil((end * EXCEPTION) / SECTOR) * SECTOR;
    await this.cow.write(this.#areaOffset(this.#area) + from, this.#current.subarray(from, to));
  }

  async #zeroArea(area: number): Promise<void> {
    await this.cow.write(this.#areaOffset(area), Buffer.alloc(this.chunkSize));
  }

  #beginArea(): void {
    this.#area++;
    this.#count = 0;
    this.#current = Buffer.alloc(this.chunkSize);
  }

  #areaOffset(area: number): number {
    return areaChunk(area, this.perArea) * this.chunkSize;
  }

  /** The store is of no use any more; durable when it resolves. */
  async invalidate(): Promise<void> {
    if (!this.valid) return;
    this.valid = false;
    await this.cow.write(0, headerSector(this.chunkSize, false));
    await this.cow.flush();
  }

  #invalidError(): DiskError {
    return new DiskError("IO", `Cannot use ${this.cow.label}: the snapshot is invalid, its store has overflowed`, {
      details: { invalidSnapshot: true },
    });
  }

  /** Throws when the snapshot has lost its contents. */
  requireValid(): void {
    if (!this.valid) throw this.#invalidError();
  }

  async #load(): Promise<void> {
    for (;;) {
      await this.#readCurrent();
      this.#take();
      if (this.#count < this.perArea) break;
      const next = areaChunk(this.#area + 1, this.perArea);
      if (next >= this.#chunks) throw this.#corrupt(`area ${this.#area} is full and nothing is behind it`);
      this.#beginArea();
    }
    this.#reserved = this.length;
  }

  async #readCurrent(): Promise<void> {
    const offset = this.#areaOffset(this.#area);
    if (offset + this.chunkSize > this.cow.size) throw this.#corrupt(`area ${this.#area} lies behind its end`);
    await this.cow.read(offset, this.#current);
  }

  /** The exceptions of the current area that were not seen yet. Returns whether there were any. */
  #take(): boolean {
    const before = this.#count;
    for (; this.#count < this.perArea; this.#count++) {
      const newChunk = this.#number(this.#count, NEW);
      if (newChunk === 0) break;
      if (newChunk >= this.#chunks || dataChunkFrom(newChunk, this.perArea) !== newChunk)
        throw this.#corrupt(`an exception names chunk ${newChunk}, it has ${this.#chunks}`);
      this.#map.set(this.#number(this.#count, OLD), newChunk);
      this.#nextFree = Math.max(this.#nextFree, dataChunkFrom(newChunk + 1, this.perArea));
    }
    return this.#count > before;
  }

  #number(index: number, field: number): number {
    const value = Number(this.#current.readBigUInt64LE(index * EXCEPTION + field));
    if (!Number.isSafeInteger(value)) throw this.#corrupt(`an exception has the chunk number ${value}`);
    return value;
  }

  #corrupt(why: string): DiskError {
    return new DiskError("CORRUPT", `Cannot use ${this.cow.label} as a snapshot's store: ${why}`);
  }

  /** What a cut left behind the list's end would come back to life when the list grows. */
  async #clearBehindEnd(): Promise<void> {
    const rest = this.#current.subarray(this.#count * EXCEPTION);
    if (isZero(rest)) return;
    rest.fill(0);
    await this.cow.write(this.#areaOffset(this.#area), this.#current);
    await this.cow.flush();
  }

  /** For readers beside a writer of another process: what it had committed when this was called is known afterwards. */
  refresh(): Promise<void> {
    this.#nextRefresh ??= this.#refreshing.then(() => {
      this.#nextRefresh = null;
      this.#refreshing = this.#lookAgain();
      return this.#refreshing;
    });
    return this.#nextRefresh;
  }

  async #lookAgain(): Promise<void> {
    if (!this.valid) return;
    const header = await readHeader(this.cow);
    if (header && !header.valid) this.valid = false;
    for (let more = header?.valid === true; more; ) {
      await this.#readCurrent();
      // A writer may be at it: what is new is believed when it reads the same again.
      const seen = Buffer.from(this.#current);
      if (this.#hasMore()) await this.#readCurrent();
      if (!seen.equals(this.#current)) continue;
      this.#take();
      more = this.#count === this.perArea;
      if (more) this.#beginArea();
    }
  }

  #hasMore(): boolean {
    return this.#count < this.perArea && this.#number(this.#count, NEW) !== 0;
  }

  /** The last exceptions of the list of which both chunks follow each other, at most so many; empty: nothing is left. */
  async lastRun(most: number): Promise<NewException[]> {
    if (this.#count === 0) {
      if (this.#area === 0) return [];
      this.#area--;
      await this.#readCurrent();
      this.#count = this.perArea;
    }
    const run: NewException[] = [];
    for (let index = this.#count - 1; index >= 0 && run.length < most; index--) {
      const exception = { oldChunk: this.#number(index, OLD), newChunk: this.#number(index, NEW) };
      const [next] = run;
      if (next && (exception.oldChunk !== next.oldChunk - 1 || exception.newChunk !== next.newChunk - 1)) break;
      run.unshift(exception);
    }
    return run;
  }

  /** Takes a `lastRun` off the list; durable when it resolves. */
  async removeLast(run: readonly NewException[]): Promise<void> {
    const end = this.#count;
    const first = end - run.length;
    this.#current.fill(0, first * EXCEPTION, end * EXCEPTION);
    await this.#writeEntries(first, end);
    await this.cow.flush();
    for (const { oldChunk } of run) this.#map.set(oldChunk, 0);
    this.#count = first;
    this.#reserved = this.length;
  }
}

/** An empty store: header and one empty area. Durable when it resolves. */
export async function formatStore(cow: BlockDevice, chunkSize: number): Promise<void> {
  const head = Buffer.alloc(chunkSize * 2);
  head.set(headerSector(chunkSize, true));
  await cow.write(chunkSize, head.subarray(chunkSize)); // the area before the header that says it is there
  await cow.flush();
  await cow.write(0, head.subarray(0, chunkSize));
  await cow.flush();
}

function headerSector(chunkSize: number, valid: boolean): Uint8Array {
  const header = { valid: valid ? 1 : 0, chunkSectors: chunkSectors(chunkSize), magic: "SnAp", version: 1 };
  return SNAPSHOT_HEADER.encode(header, new Uint8Array(SECTOR));
}

/** Null for a store that nobody has used yet. */
export async function readHeader(cow: BlockDevice): Promise<{ valid: boolean; chunkSize: number } | null> {
  const sector = new Uint8Array(SECTOR);
  await cow.read(0, sector);
  if (isZero(sector.subarray(0, 4))) return null;
  const { valid, chunkSectors: sectors } = SNAPSHOT_HEADER.decode(sector);
  const chunkSize = sectors * SECTOR;
  if (!isChunkSize(chunkSize))
    throw new DiskError("CORRUPT", `Cannot use ${cow.label} as a snapshot's store: its chunks have ${chunkSize} bytes`);
  return { valid: valid === 1, chunkSize };
}
