/** Byte ranges in use: a task waits until no earlier task on an overlapping range is left. Tasks on disjoint ranges run at once. */

interface Held {
  readonly start: number;
  readonly end: number;
  readonly done: Promise<unknown>;
}

export class RangeLock {
  readonly #held = new Set<Held>();

  async run<T>(offset: number, length: number, task: () => Promise<T>): Promise<T> {
    const end = offset + length;
    const before = [...this.#held].filter((other) => other.start < end && offset < other.end);
    const mine = Promise.allSettled(before.map((other) => other.done)).then(task);
    const held: Held = { start: offset, end, done: mine };
    this.#held.add(held);
    try {
      return await mine;
    } finally {
      this.#held.delete(held);
    }
  }
}
