/** Time as the store needs it: ages, and being called back. */
export interface Clock {
  /** Milliseconds from any beginning; never goes back. */
  now(): number;
  /** Calls `callback` once, not before `ms` have passed, unless the returned function is called first. */
  after(ms: number, callback: () => void): () => void;
}

/** Time that stands still: nothing ages, nothing is called back. */
export const FROZEN_CLOCK: Clock = { now: () => 0, after: () => () => {} };
