/** What a set of legs remembers on disk about itself: which legs are current, and where legs may differ. */
import type { Regions } from "./regions.js";

/**
 * `in sync`: has every byte. `behind`: takes writes, and is read when it has caught up. `failed`: is not used, because it is
 * missing or refused a write.
 */
export type LegState = "in sync" | "behind" | "failed";

export interface RecordedState {
  readonly legs: readonly LegState[];
  /** Writes may be under way: after a cut, dirty regions have to be made alike again. */
  readonly inUse: boolean;
  /** Some dirty regions are known to differ. */
  readonly unequal: boolean;
  readonly dirty: Regions;
}

/** Writes go to the legs that are in sync. Each call gives the legs on which it failed; they know nothing of it. */
export interface SyncRecord {
  /** Whether legs that fail can be told from the others at the next opening. */
  readonly remembersFailures: boolean;
  /** Everything. Durable when it resolves. */
  writeState(state: RecordedState): Promise<readonly number[]>;
  /** The bits of some regions, ascending. `durable`: before it resolves; otherwise with any later call that is. */
  writeBits(state: RecordedState, regions: readonly number[], durable: boolean): Promise<readonly number[]>;
}

/** A volume without a memory: whoever opens it makes all legs alike. */
export const NO_RECORD: SyncRecord = {
  remembersFailures: false,
  writeState: async () => [],
  writeBits: async () => [],
};
