/** Legs made alike, region by region, beside other use; and compared. */
import type { RangeLock } from "../../block/range-lock.js";
import { DiskError } from "../../errors.js";
import type { Intents } from "./intents.js";
import type { LegLayout } from "./leg-io.js";
import type { Legs } from "./legs.js";
import type { Membership } from "./membership.js";

export interface RecoveryOptions {
  readonly layout: LegLayout;
  readonly legs: Legs;
  readonly members: Membership;
  readonly intents: Intents;
  readonly ranges: RangeLock;
  readonly regionSize: number;
}

export class Recovery {
  readonly #options: RecoveryOptions;
  readonly #regions: number;
  #stopped = false;

  constructor(options: RecoveryOptions) {
    this.#options = options;
    this.#regions = Math.ceil(options.layout.syncSize / options.regionSize);
  }

  /** Ends `run` after the region that it is at. */
  stop(): void {
    this.#stopped = true;
  }

  /** Regions that are not alike. */
  get left(): number {
    let left = 0;
    for (let region = 0; region < this.#regions; region++) if (this.#options.members.isUnequal(region)) left++;
    return left;
  }

  /**
   * Regions that hold zeros on every leg are alike without being read: with disks that are sparse, most of a new volume. Before
   * anybody uses the set.
   */
  async skipEmpty(): Promise<void> {
    const { members } = this.#options;
    for (let region = 0; region < this.#regions; ) {
      let end = region;
      while (end < this.#regions && members.isUnequal(end)) end++;
      const { empty, regions } = end > region ? await this.#emptiness(region, end) : { empty: false, regions: 1 };
      for (const next = region + regions; region < next; region++) if (empty) this.#alike(region);
    }
    await this.#joinComplete();
  }

  /** Makes the others alike, beside other use, until all are or `stop` is called. */
  async run(): Promise<void> {
    const { members } = this.#options;
    for (let region = 0; region < this.#regions && !this.#stopped; region++)
      if (members.isUnequal(region)) await this.#mend(region);
    await this.#joinComplete();
  }

  async #joinComplete(): Promise<void> {
    const { members, legs } = this.#options;
    const complete = [...members.behind].filter(([, { size }]) => size === 0).map(([leg]) => leg);
    if (complete.length === 0) return;
    await members.begin();
    await legs.flush();
    await members.join(complete.filter((leg) => members.behind.has(leg)));
  }

  /** Whether the regions from this one on hold zeros everywhere, and for how many this is known. */
  async #emptiness(region: number, end: number): Promise<{ empty: boolean; regions: number }> {
    const { layout, legs, regionSize } = this.#options;
    const { offset, length } = this.#rangeOf(region, end);
    const range = layout.legRange(offset, length);
    // Whole regions in a part of the legs' range, less one for what `legRange` has added.
    const regionsIn = (bytes: number) =>
      bytes === range.length
        ? end - region
        : Math.max(0, Math.floor((bytes / range.length) * (length / regionSize)) - 1);
    let zeros = range.length;
    for (let leg = 0; leg < legs.count; leg++) {
      if (!legs.takesWrites(leg)) continue;
      const run = await legs.zeroRun(leg, range.offset, zeros);
      if (!run.zero) return { empty: false, regions: Math.max(1, regionsIn(run.length)) };
      zeros = run.length;
    }
    const regions = regionsIn(zeros);
    return regions > 0 ? { empty: true, regions } : { empty: false, regions: 1 };
  }

  /** A region that cannot be made alike stays as it is. */
  async #mend(region: number): Promise<void> {
    try {
      await this.#visit(region, true);
      this.#alike(region);
    } catch (error) {
      if (!(error instanceof DiskError) || error.code !== "IO") throw error;
    }
  }

  #alike(region: number): void {
    const { stale, behind } = this.#options.members;
    stale.delete(region);
    for (const lacks of behind.values()) lacks.delete(region);
  }

  #rangeOf(region: number, end: number): { offset: number; length: number } {
    const { layout, regionSize } = this.#options;
    const offset = region * regionSize;
    return { offset, length: Math.min(layout.syncSize, end * regionSize) - offset };
  }

  /** Bytes in which legs differ; with `repair` they do no more. */
  async check(repair: boolean): Promise<number> {
    let different = 0;
    for (let region = 0; region < this.#regions; region++) different += await this.#visit(region, repair);
    return different;
  }

  async #visit(region: number, repair: boolean): Promise<number> {
    const { layout, members, intents, ranges } = this.#options;
    const { offset, length } = this.#rangeOf(region, region + 1);
    if (!repair) return ranges.run(offset, length, () => layout.recover(offset, length, false));
    await members.begin();
    await intents.enter(region, region);
    try {
      return await ranges.run(offset, length, () => layout.recover(offset, length, true));
    } finally {
      intents.leave(region, region);
    }
  }
}
