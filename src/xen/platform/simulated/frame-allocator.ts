/** Which of its own frames a domain uses. */
import { DiskError } from "../../../errors.js";
import { FIRST_FREE_FRAME } from "./domain-pages.js";

/** Contiguous runs of a domain's frames. */
export class FrameAllocator {
  readonly #domid: number;
  /** Free runs, ascending, never touching. */
  readonly #free: { first: number; count: number }[];

  constructor(frames: number, domid: number) {
    this.#domid = domid;
    this.#free = [{ first: FIRST_FREE_FRAME, count: frames - FIRST_FREE_FRAME }];
  }

  take(count: number): number {
    const run = this.#free.find((candidate) => candidate.count >= count);
    if (!run)
      throw new DiskError(
        "NO_SPACE",
        `Cannot allocate ${count} pages: domain ${this.#domid} has no run of free memory that long`,
      );
    const { first } = run;
    run.first += count;
    run.count -= count;
    if (run.count === 0) this.#free.splice(this.#free.indexOf(run), 1);
    return first;
  }

  give(first: number, count: number): void {
    const at = this.#free.findIndex((run) => run.first > first);
    this.#free.splice(at < 0 ? this.#free.length : at, 0, { first, count });
    for (let i = this.#free.length - 1; i > 0; i--) {
      const before = this.#free[i - 1]!;
      if (before.first + before.count !== this.#free[i]!.first) continue;
      before.count += this.#free[i]!.count;
      this.#free.splice(i, 1);
    }
  }
}
