/**
 * base:allocation as runs of status flags, used from both ends: neighbours of one status are joined, and boundaries are moved
 * to whole blocks. A block of two kinds keeps only the flags that hold for all of it, which the protocol always allows.
 */

export interface StatusRun {
  readonly offset: number;
  readonly length: number;
  /** STATE flags. */
  readonly status: number;
}

export class RunList {
  readonly #runs: { offset: number; length: number; status: number }[] = [];
  readonly #blockSize: number;
  readonly #limit: number;
  /** End of what was added. */
  #end: number;
  /** The status so far of the block that `#end` cuts; meaningless when `#end` is a whole block. */
  #partial = 0;

  /** `start` is a multiple of `blockSize`. No more than `limit` runs are taken. */
  constructor(start: number, blockSize: number, limit: number) {
    this.#end = start;
    this.#blockSize = blockSize;
    this.#limit = limit;
  }

  get runs(): readonly StatusRun[] {
    return this.#runs;
  }

  /** Adds the run after the last one. False when the list is full; what was not taken is asked for again by the client. */
  add(length: number, status: number): boolean {
    const blockSize = this.#blockSize;
    let start = this.#end;
    const end = start + length;
    this.#end = end;
    const into = start % blockSize;
    if (into > 0) {
      this.#partial &= status;
      const blockEnd = start - into + blockSize;
      if (end < blockEnd) return true;
      if (!this.#append(start - into, blockSize, this.#partial)) return false;
      start = blockEnd;
    }
    const wholeEnd = end - (end % blockSize);
    this.#partial = status;
    return wholeEnd <= start || this.#append(start, wholeEnd - start, status);
  }

  #append(offset: number, length: number, status: number): boolean {
    const last = this.#runs.at(-1);
    if (last?.status === status) last.length += length;
    else if (this.#runs.length >= this.#limit) return false;
    else this.#runs.push({ offset, length, status });
    return true;
  }
}
