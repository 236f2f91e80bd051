/**
 * A thin volume as a device. A block (the pool's chunk) without a data block reads as zeros, or as the external origin; a write gives it
 * one. A data block that a snapshot shares is never written: the write moves its block to a new one.
 *
 *   new data block reserved -> filled -> mapped       A cut before the commit leaves the old mapping; nothing is leaked.
 */
import { type BlockDevice, defineDevice, type Extent } from "../../block/device.js";
import type { OpenThin, ThinPool } from "./pool.js";

export interface ThinDeviceOptions {
  readonly label: string;
  /** Bytes; blocks behind it stay mapped. */
  readonly size: number;
  readonly writable: boolean;
  /** Read where nothing is mapped; behind its end are zeros. */
  readonly externalOrigin: BlockDevice | null;
}

export function thinDevice(pool: ThinPool, thin: OpenThin, options: ThinDeviceOptions): BlockDevice {
  const io = new ThinIo(pool, thin, options);
  const { label, size, writable } = options;
  return defineDevice({
    label,
    size,
    writable,
    read: (offset, into) => io.read(offset, into),
    write: (offset, data) => io.write(offset, data),
    zero: (offset, length) => io.zero(offset, length),
    discard: (offset, length) => io.discard(offset, length),
    extents: (offset, length) => io.extents(offset, length),
    flush: () => pool.flush(),
  });
}

class ThinIo {
  readonly #pool: ThinPool;
  readonly #thin: OpenThin;
  readonly #options: ThinDeviceOptions;
  readonly #chunk: number;

  constructor(pool: ThinPool, thin: OpenThin, options: ThinDeviceOptions) {
    this.#pool = pool;
    this.#thin = thin;
    this.#options = options;
    this.#chunk = pool.options.chunkSize;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    const block = Math.floor(offset / this.#chunk);
    const within = offset - block * this.#chunk;
    return within + into.length <= this.#chunk
      ? this.#readBlock(block, within, into)
      : this.#eachBlock(offset, into.length, (number, from, length, done) =>
          this.#readBlock(number, from, into.subarray(done, done + length)),
        );
  }

  async #readBlock(block: number, within: number, into: Uint8Array): Promise<void> {
    const dataBlock = this.#thin.pages.dataBlock(block) ?? (await this.#load(block));
    if (dataBlock < 0) return this.#readUnmapped(block * this.#chunk + within, into);
    const { busy, data } = this.#pool;
    busy.enter(dataBlock, false);
    try {
      await data.read(dataBlock * this.#chunk + within, into);
    } finally {
      busy.leave(dataBlock, false);
    }
  }

  async #readUnmapped(offset: number, into: Uint8Array): Promise<void> {
    const { externalOrigin } = this.#options;
    const inside = externalOrigin ? Math.max(0, Math.min(into.length, externalOrigin.size - offset)) : 0;
    if (inside > 0) await externalOrigin!.read(offset, into.subarray(0, inside));
    into.fill(0, inside);
  }

  async #load(block: number): Promise<number> {
    await this.#pool.load(this.#thin, block);
    // Its page may be gone again when many blocks are in use.
    return this.#thin.pages.dataBlock(block) ?? this.#load(block);
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#eachBlock(offset, data.length, (block, within, length, done) =>
      this.#writeBlock(block, within, data.subarray(done, done + length)),
    );
  }

  async #writeBlock(block: number, within: number, data: Uint8Array): Promise<void> {
    const here = this.#thin.pages.dataBlock(block) ?? (await this.#load(block));
    if (here >= 0 && !this.#isShared(block)) return this.#writeInPlace(here, within, data);
    return this.#thin.moving.run(block, 1, async () => {
      const dataBlock = await this.#load(block); // as it is now: we may have waited
      if (dataBlock >= 0 && !this.#isShared(block)) return this.#writeInPlace(dataBlock, within, data);
      return this.#writeElsewhere(block, dataBlock, within, data);
    });
  }

  #isShared(block: number): boolean {
    return this.#pool.isShared(this.#thin, this.#thin.pages.time(block));
  }

  async #writeInPlace(dataBlock: number, within: number, data: Uint8Array): Promise<void> {
    const { busy } = this.#pool;
    busy.enter(dataBlock, true);
    try {
      await this.#pool.data.write(dataBlock * this.#chunk + within, data);
    } finally {
      busy.leave(dataBlock, true);
    }
  }

  async #writeElsewhere(block: number, before: number, within: number, data: Uint8Array): Promise<void> {
    const pool = this.#pool;
    // Writes that began before the snapshot still arrive in the old data block: they belong into the copy.
    if (before >= 0) await pool.busy.unwritten(before);
    const dataBlock = await pool.reserve();
    try {
      let contents = data;
      if (data.length < this.#chunk) {
        contents = new Uint8Array(this.#chunk);
        await this.#readBlock(block, 0, contents);
        contents.set(data, within);
      }
      await pool.data.write(dataBlock * this.#chunk, contents);
      await pool.map(this.#thin, block, dataBlock);
    } finally {
      pool.busy.leave(dataBlock, true);
    }
  }

  /** Whole blocks lose their place, which reads as zeros where there is no external origin. */
  async zero(offset: number, length: number): Promise<void> {
    const { begin, end } = this.#options.externalOrigin ? { begin: 0, end: 0 } : this.#wholeBlocks(offset, length);
    if (end <= begin) return this.#writeZeros(offset, length);
    const [from, to] = [begin * this.#chunk, Math.min(end * this.#chunk, this.#options.size)];
    await this.#writeZeros(offset, from - offset);
    await this.#pool.unmap(this.#thin, begin, end);
    await this.#writeZeros(to, offset + length - to);
  }

  #writeZeros(offset: number, length: number): Promise<void> {
    return this.#eachBlock(offset, length, async (block, within, part) => {
      const dataBlock = this.#thin.pages.dataBlock(block) ?? (await this.#load(block));
      if (dataBlock < 0 && !this.#options.externalOrigin) return;
      await this.#writeBlock(block, within, new Uint8Array(part));
    });
  }

  async discard(offset: number, length: number): Promise<void> {
    if (this.#pool.options.discards === "ignore") return;
    const { begin, end } = this.#wholeBlocks(offset, length);
    if (begin < end) await this.#pool.unmap(this.#thin, begin, end);
  }

  #wholeBlocks(offset: number, length: number): { begin: number; end: number } {
    const end = offset + length;
    const last = end === this.#options.size ? Math.ceil(end / this.#chunk) : Math.floor(end / this.#chunk);
    return { begin: Math.ceil(offset / this.#chunk), end: last };
  }

  async #eachBlock(
    offset: number,
    length: number,
    work: (block: number, within: number, length: number, done: number) => Promise<void>,
  ): Promise<void> {
    for (let done = 0; done < length; ) {
      const block = Math.floor((offset + done) / this.#chunk);
      const within = offset + done - block * this.#chunk;
      const part = Math.min(length - done, this.#chunk - within);
      await work(block, within, part, done);
      done += part;
    }
  }

  async *extents(offset: number, length: number): AsyncGenerator<Extent> {
    const end = offset + length;
    let at = offset;
    for await (const run of this.#runs(Math.floor(offset / this.#chunk), Math.ceil(end / this.#chunk))) {
      const from = Math.max(at, run.block * this.#chunk);
      const to = Math.min(end, (run.block + run.count) * this.#chunk);
      yield* this.#unmapped(at, from);
      const shift = run.block * this.#chunk - run.dataBlock * this.#chunk;
      for await (const extent of this.#pool.data.extents(from - shift, to - from))
        yield { ...extent, offset: extent.offset + shift, present: true };
      at = to;
    }
    yield* this.#unmapped(at, end);
  }

  async *#unmapped(offset: number, end: number): AsyncGenerator<Extent> {
    const { externalOrigin } = this.#options;
    const inside = Math.max(offset, Math.min(end, externalOrigin?.size ?? 0));
    if (externalOrigin && offset < inside)
      for await (const extent of externalOrigin.extents(offset, inside - offset))
        yield { ...extent, depth: extent.depth + 1 };
    if (inside >= end) return;
    yield { offset: inside, length: end - inside, data: false, zero: true, present: false, depth: 0, hostOffset: null };
  }

  /** Blocks that follow each other here and in the data, as one. */
  async *#runs(begin: number, end: number): AsyncGenerator<{ block: number; dataBlock: number; count: number }> {
    let run: { block: number; dataBlock: number; count: number } | null = null;
    for (let from: number | null = begin; from !== null && from < end; ) {
      const { found, next } = await this.#pool.runs(this.#thin, from);
      for (const { block, dataBlock } of found) {
        if (block >= end) break;
        if (run && block === run.block + run.count && dataBlock === run.dataBlock + run.count) run.count++;
        else {
          if (run) yield run;
          run = { block, dataBlock, count: 1 };
        }
      }
      from = next;
    }
    if (run) yield run;
  }
}
