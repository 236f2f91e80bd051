/** Data blocks that are being read or written: whoever frees one need not wait, but nobody may get it for something else meanwhile. */
export class BusyBlocks {
  readonly #users = new Map<number, number>();
  readonly #writers = new Map<number, number>();
  readonly #waiting = new Map<number, (() => void)[]>();

  has(block: number): boolean {
    return this.#users.has(block);
  }

  enter(block: number, writing: boolean): void {
    count(this.#users, block, 1);
    if (writing) count(this.#writers, block, 1);
  }

  leave(block: number, writing: boolean): void {
    count(this.#users, block, -1);
    if (!writing) return;
    count(this.#writers, block, -1);
    if (this.#writers.has(block)) return;
    for (const resolve of this.#waiting.get(block) ?? []) resolve();
    this.#waiting.delete(block);
  }

  /** Resolves when nobody writes the block. */
  async unwritten(block: number): Promise<void> {
    while (this.#writers.has(block))
      await new Promise<void>((resolve) => {
        this.#waiting.set(block, [...(this.#waiting.get(block) ?? []), resolve]);
      });
  }
}

function count(counts: Map<number, number>, block: number, by: number): void {
  const left = (counts.get(block) ?? 0) + by;
  if (left > 0) counts.set(block, left);
  else counts.delete(block);
}
