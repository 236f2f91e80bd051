/**
 * Which regions may be written: before the first byte of a region is, its bit is on disk. Bits are cleared long after, and only when
 * all legs have flushed what was written there.
 *
 *   enter -> (bit set, flushed) -> write to the legs -> leave        flush of the legs -> retire: bits of idle regions cleared
 */
import type { Regions } from "./regions.js";

/** What stands behind: `mark` sets bits durably (and more that came up meanwhile), `clear` takes some away. */
export interface IntentStore {
  mark(regions: readonly number[]): Promise<void>;
  clear(regions: readonly number[]): Promise<void>;
}

export class Intents {
  /** Regions whose bit is on disk. */
  readonly dirty: Regions;
  readonly #store: IntentStore;
  /** Regions with writes under way, and how many. */
  readonly #busy = new Map<number, number>();
  #recent = new Set<number>();
  #wanted = new Set<number>();
  #marking: Promise<void> | null = null;

  constructor(dirty: Regions, store: IntentStore) {
    this.dirty = dirty;
    this.#store = store;
  }

  /** Resolves when regions `first` to `last` may be written. Always followed by `leave`, unless it throws. */
  async enter(first: number, last: number): Promise<void> {
    // Counted before it is looked at: `retire` leaves busy regions alone.
    for (let region = first; region <= last; region++) {
      this.#busy.set(region, (this.#busy.get(region) ?? 0) + 1);
      this.#recent.add(region);
    }
    try {
      for (;;) {
        let missing = false;
        for (let region = first; region <= last; region++)
          if (!this.dirty.has(region)) {
            missing = true;
            this.#wanted.add(region);
          }
        if (!missing) return;
        this.#marking ??= this.#mark();
        await this.#marking;
      }
    } catch (error) {
      this.leave(first, last);
      throw error;
    }
  }

  leave(first: number, last: number): void {
    for (let region = first; region <= last; region++) {
      const users = this.#busy.get(region)! - 1;
      if (users === 0) this.#busy.delete(region);
      else this.#busy.set(region, users);
    }
  }

  /** One write of the bitmap for all that came up while the one before was under way. */
  async #mark(): Promise<void> {
    try {
      await Promise.resolve(); // those that were called together go together
      const regions = [...this.#wanted].sort((a, b) => a - b);
      this.#wanted = new Set();
      await this.#store.mark(regions);
      for (const region of regions) this.dirty.add(region);
    } finally {
      this.#marking = null;
    }
  }

  /**
   * Clears what nobody has written since the call before. `flush` makes all that was written durable on the legs;
   * `keep`: regions that stay dirty.
   */
  async retire(flush: () => Promise<void>, keep: (region: number) => boolean): Promise<void> {
    const before = this.#recent;
    this.#recent = new Set(this.#busy.keys());
    await flush();
    const idle = [...this.dirty].filter(
      (region) => !keep(region) && !this.#busy.has(region) && !this.#recent.has(region) && !before.has(region),
    );
    if (idle.length === 0) return;
    for (const region of idle) this.dirty.delete(region);
    await this.#store.clear(idle);
  }
}
