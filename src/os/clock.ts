/** The system's monotonic clock. A callback that is still to come keeps no process alive. */
export const MONOTONIC_CLOCK = {
  /** Milliseconds. */
  now: () => performance.now(),
  /** Calls `callback` once after `ms`, unless the returned function is called before. */
  after(ms: number, callback: () => void): () => void {
    const timer = setTimeout(callback, Math.max(0, ms)).unref();
    return () => clearTimeout(timer);
  },
};
