/**
 * An open thin pool: what its volumes share. Every look at the trees and every change of them goes through one queue; data is read and
 * written beside it.
 *
 * What needs room is refused with NO_SPACE before anything is changed, while a part of the metadata is still free: commits, discards and
 * removals always find room, everything that is mapped can be read and written on, and nothing is lost. An error in the middle of a
 * change ends the pool's writing; the next opening finds the last commit.
 */
import type { BlockDevice } from "../../block/device.js";
import { RangeLock } from "../../block/range-lock.js";
import { DiskError } from "../../errors.js";
import type { SharedState } from "../shared-states.js";
import { BusyBlocks } from "./busy-blocks.js";
import { MappingPages, PAGE_BLOCKS } from "./mapping-pages.js";
import type { Mapping, ThinDeviceState, ThinMetadata } from "./metadata.js";

/** What the kernel keeps free of the metadata too: a tenth, at most 16 MiB. */
export function metadataReserve(blocks: number): number {
  return Math.min(4096, Math.floor(blocks / 10));
}

/** So many counts change in one transaction at most: 64 Ki, a few megabytes of memory. */
const MAX_CHANGES = 1 << 16;
/** So many mappings are taken away at once: as many changes of counts. */
const UNMAPPED_AT_ONCE = 1 << 14;
/** Devices with more mappings are deleted in several transactions: 64 GiB with chunks of 64 KiB. */
const DELETED_AT_ONCE = 1 << 20;
/** What one change, and the commit behind it, may take of the reserve. */
const LEAST_FREE = 24;

export interface PoolOptions {
  readonly label: string;
  /** Bytes. */
  readonly chunkSize: number;
  readonly discards: "passdown" | "nopassdown" | "ignore";
  readonly writable: boolean;
}

/** A device of the pool while it is open, however often. */
export interface OpenThin {
  readonly state: ThinDeviceState;
  readonly pages: MappingPages;
  /** Of blocks that are given another place. */
  readonly moving: RangeLock;
}

export class ThinPool implements SharedState {
  readonly options: PoolOptions;
  readonly data: BlockDevice;
  readonly busy = new BusyBlocks();
  readonly #metadata: ThinMetadata;
  readonly #devices = new Map<number, OpenThin>();
  #last: Promise<unknown> = Promise.resolve();
  #failure: DiskError | null = null;

  constructor(metadata: ThinMetadata, data: BlockDevice, options: PoolOptions) {
    this.#metadata = metadata;
    this.data = data;
    this.options = options;
  }

  /** Throws `NOT_FOUND` for a device that the pool does not have. */
  async device(id: number): Promise<OpenThin> {
    return this.look(async () => {
      const known = this.#devices.get(id);
      if (known) return known;
      const opened = { state: await this.#metadata.device(id), pages: new MappingPages(), moving: new RangeLock() };
      this.#devices.set(id, opened);
      return opened;
    });
  }

  isShared({ state }: OpenThin, time: number): boolean {
    return this.#metadata.isShared(state, { time });
  }

  /** Loads the page of a block. */
  async load({ state, pages }: OpenThin, block: number): Promise<void> {
    await this.look(async () => {
      if (pages.dataBlock(block) !== undefined) return;
      const page = Math.floor(block / PAGE_BLOCKS);
      pages.load(page, await this.#within(state, page * PAGE_BLOCKS, (page + 1) * PAGE_BLOCKS));
    });
  }

  /** Mappings from a block on, some of them, and where to go on; null behind the last. */
  runs({ state }: OpenThin, from: number): Promise<{ found: Mapping[]; next: number | null }> {
    return this.look(() => this.#metadata.leafMappings(state, from));
  }

  async #within(state: ThinDeviceState, begin: number, end: number): Promise<Mapping[]> {
    const all: Mapping[] = [];
    for (let from: number | null = begin; from !== null && from < end; ) {
      const { found, next }: { found: Mapping[]; next: number | null } = await this.#metadata.leafMappings(state, from);
      for (const mapping of found) if (mapping.block < end) all.push(mapping);
      from = next;
    }
    return all;
  }

  /** A free data block for the caller alone, busy until it leaves it. Throws `NO_SPACE`. */
  reserve(): Promise<number> {
    return this.#change(async (metadata) => {
      const find = () => metadata.data.find((block) => this.busy.has(block));
      let found = await find();
      if (found === null && metadata.data.freed > 0) {
        await this.#commit();
        found = await find();
      }
      if (found === null) throw this.#full("data", `all of its ${metadata.data.size} chunks are in use`);
      this.busy.enter(found, true);
      return found;
    });
  }

  /** The block has its data in the reserved data block from now on. */
  map({ state, pages }: OpenThin, block: number, dataBlock: number): Promise<void> {
    return this.#change(async (metadata) => pages.set(await this.#all(() => metadata.map(state, block, dataBlock))));
  }

  /** Takes the places of all blocks from `begin` until before `end`, some of them at a time. */
  async unmap(open: OpenThin, begin: number, end: number): Promise<void> {
    const { state, pages } = open;
    for (let from = begin; from < end; ) {
      from = await this.#change(async (metadata) => {
        const until = await this.#unmapEnd(state, from, end);
        const freed: number[] = [];
        await this.#all(() => metadata.unmap(state, from, until, (block) => freed.push(block)));
        pages.clear(from, until);
        // Before the commit: afterwards somebody else may have the blocks.
        if (this.options.discards === "passdown") await this.#passDown(freed);
        return until;
      }, LEAST_FREE);
    }
  }

  /** Takes the places of a device's blocks before it is deleted, when they are too many for one transaction. */
  async shrink(id: number): Promise<void> {
    const open = await this.look(async (metadata) => {
      if (!(await metadata.hasDevice(id))) return null;
      return { state: await metadata.device(id), pages: new MappingPages(), moving: new RangeLock() };
    });
    if (open && open.state.details.mappedBlocks > DELETED_AT_ONCE && this.options.writable)
      await this.unmap(open, 0, Number.MAX_SAFE_INTEGER);
  }

  async #unmapEnd(state: ThinDeviceState, begin: number, end: number): Promise<number> {
    let seen = 0;
    for (let from: number | null = begin; from !== null && from < end; ) {
      const { found, next }: { found: Mapping[]; next: number | null } = await this.#metadata.leafMappings(state, from);
      seen += found.length;
      if (seen >= UNMAPPED_AT_ONCE && next !== null) return Math.min(end, next);
      from = next;
    }
    return end;
  }

  async #passDown(freed: number[]): Promise<void> {
    const { chunkSize } = this.options;
    freed.sort((a, b) => a - b);
    for (let i = 0; i < freed.length; ) {
      let count = 1;
      while (freed[i + count] === freed[i]! + count) count++;
      await this.data.discard(freed[i]! * chunkSize, count * chunkSize);
      i += count;
    }
  }

  /** Everything that was written before is durable when it resolves. */
  async flush(): Promise<void> {
    if (!this.options.writable) return;
    await this.#queued(async () => {
      if (this.#metadata.isDirty) await this.#commit();
      else await this.data.flush();
    });
  }

  /** Changes of the pool's devices; committed when it resolves. */
  administer<T>(task: (metadata: ThinMetadata) => Promise<T>): Promise<T> {
    return this.#change(async (metadata) => {
      const result = await this.#all(() => task(metadata));
      await this.#commit();
      return result;
    }, LEAST_FREE);
  }

  /** Looks at the trees; changes nothing. */
  look<T>(task: (metadata: ThinMetadata) => Promise<T>): Promise<T> {
    return this.#queued(async () => {
      try {
        return await task(this.#metadata);
      } finally {
        await this.#metadata.blocks.cache.trim();
      }
    });
  }

  #change<T>(task: (metadata: ThinMetadata) => Promise<T>, needed?: number): Promise<T> {
    return this.look(async (metadata) => {
      this.#refuseWriting();
      await this.#makeRoom(needed ?? metadataReserve(metadata.blocks.space.size));
      return task(metadata);
    });
  }

  /** A task that is done wholly, or the transaction is lost. */
  async #all<T>(task: () => Promise<T>): Promise<T> {
    try {
      return await task();
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  async #makeRoom(needed: number): Promise<void> {
    const { blocks, data } = this.#metadata;
    const many = blocks.space.changed + data.changed > MAX_CHANGES;
    const scattered = data.touchedBitmaps > Math.max(8, metadataReserve(blocks.space.size) / 4);
    if (many || scattered || (blocks.space.free < needed && this.#metadata.isDirty)) await this.#commit();
    if (blocks.space.free < needed)
      throw this.#full(
        "metadata",
        `${blocks.space.free} of its ${blocks.space.size} blocks are free, kept are ${needed}`,
      );
  }

  async #commit(): Promise<void> {
    await this.#all(() => this.#metadata.commit(() => this.data.flush()));
  }

  #queued<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task);
    this.#last = result.catch(() => {});
    return result;
  }

  #refuseWriting(): void {
    const { label, writable } = this.options;
    if (this.#failure)
      throw new DiskError("IO", `Cannot change ${label}: an earlier error ended its transaction`, {
        cause: this.#failure,
      });
    if (!writable) throw new DiskError("READ_ONLY", `Cannot change ${label}: it is open for reading`);
  }

  #fail(error: unknown): void {
    this.#failure ??= error instanceof DiskError ? error : new DiskError("IO", String(error), { cause: error });
  }

  #full(what: string, found: string): DiskError {
    return new DiskError("NO_SPACE", `Cannot write to ${this.options.label}: its ${what} space is used up, ${found}`, {
      details: { pool: this.options.label, what },
    });
  }

  async close(): Promise<void> {
    if (this.options.writable && !this.#failure) await this.flush();
  }
}
