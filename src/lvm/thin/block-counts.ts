/** How often each block was met: a page of bytes for each bitmap's worth of blocks that has any, and a map for the few large counts. */
import { ENTRIES_PER_BITMAP } from "./layout.js";

const FULL = 255;

export class BlockCounts {
  readonly #pages = new Map<number, Uint8Array>();
  readonly #large = new Map<number, number>();

  get(block: number): number {
    const small = this.#pages.get(Math.floor(block / ENTRIES_PER_BITMAP))?.[block % ENTRIES_PER_BITMAP] ?? 0;
    return small < FULL ? small : this.#large.get(block)!;
  }

  /** Returns how often it was met before. */
  add(block: number): number {
    const before = this.get(block);
    const number = Math.floor(block / ENTRIES_PER_BITMAP);
    const page = this.#pages.get(number) ?? new Uint8Array(ENTRIES_PER_BITMAP);
    this.#pages.set(number, page);
    page[block % ENTRIES_PER_BITMAP] = Math.min(before + 1, FULL);
    if (before + 1 >= FULL) this.#large.set(block, before + 1);
    return before;
  }

  /** Blocks that were met, ascending, with their counts. */
  *entries(): Generator<readonly [block: number, count: number]> {
    for (const [number, page] of [...this.#pages].sort(([a], [b]) => a - b))
      for (let i = 0; i < page.length; i++)
        if (page[i]! > 0) yield [number * ENTRIES_PER_BITMAP + i, this.get(number * ENTRIES_PER_BITMAP + i)];
  }
}
