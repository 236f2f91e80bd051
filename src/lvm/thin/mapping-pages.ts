/**
 * The mappings of a device as flat pages, so that most requests find their data block without a look into the trees, and without a
 * promise. At most `limit` pages, the least recently loaded goes.
 */
import type { Mapping } from "./metadata.js";

/** Mappings of a page: 32 MiB of the device with chunks of 64 KiB. */
export const PAGE_BLOCKS = 512;
/** 12 MiB. */
const PAGES = 2048;

interface Page {
  /** -1: not mapped. */
  readonly dataBlocks: Float64Array;
  readonly times: Uint32Array;
}

export class MappingPages {
  readonly #pages = new Map<number, Page>();
  readonly #limit: number;

  constructor(limit = PAGES) {
    this.#limit = limit;
  }

  /** The data block, -1 when the block has none, undefined when its page is not loaded. */
  dataBlock(block: number): number | undefined {
    return this.#pages.get(Math.floor(block / PAGE_BLOCKS))?.dataBlocks[block % PAGE_BLOCKS];
  }

  /** Of a block that has a data block. */
  time(block: number): number {
    return this.#pages.get(Math.floor(block / PAGE_BLOCKS))!.times[block % PAGE_BLOCKS]!;
  }

  /** `mappings` are all that the page has. */
  load(page: number, mappings: readonly Mapping[]): void {
    if (this.#pages.size >= this.#limit) this.#pages.delete(this.#pages.keys().next().value!);
    this.#pages.set(page, { dataBlocks: new Float64Array(PAGE_BLOCKS).fill(-1), times: new Uint32Array(PAGE_BLOCKS) });
    for (const mapping of mappings) this.set(mapping);
  }

  set({ block, dataBlock, time }: Mapping): void {
    const page = this.#pages.get(Math.floor(block / PAGE_BLOCKS));
    if (!page) return;
    page.dataBlocks[block % PAGE_BLOCKS] = dataBlock;
    page.times[block % PAGE_BLOCKS] = time;
  }

  /** Nothing is mapped from `begin` until before `end`. */
  clear(begin: number, end: number): void {
    for (const [number, { dataBlocks }] of this.#pages) {
      const start = number * PAGE_BLOCKS;
      if (start < end && begin < start + PAGE_BLOCKS)
        dataBlocks.fill(-1, Math.max(0, begin - start), Math.min(PAGE_BLOCKS, end - start));
    }
  }

  forget(): void {
    this.#pages.clear();
  }
}
