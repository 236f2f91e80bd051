/** Counts by host cluster, in memory that follows what is counted, up to a limit: a hostile image cannot ask for more. */
import { DiskError } from "../../errors.js";

const PAGE = 1024;
/** Counts of 128 million clusters in a row: 8 TiB in clusters of 64 KiB. */
const MOST_PAGES = 1 << 17;
const SATURATED = 0xffff;

export class ReferenceCounts {
  readonly #label: string;
  readonly #pages = new Map<number, Uint16Array>();
  /** What does not fit 16 bits. */
  readonly #large = new Map<number, number>();

  constructor(label: string) {
    this.#label = label;
  }

  get(cluster: number): number {
    const count = this.#pages.get(Math.floor(cluster / PAGE))?.[cluster % PAGE] ?? 0;
    return count === SATURATED ? this.#large.get(cluster)! : count;
  }

  add(cluster: number, by: number): void {
    const now = this.get(cluster) + by;
    this.#page(Math.floor(cluster / PAGE))[cluster % PAGE] = Math.min(now, SATURATED);
    if (now >= SATURATED) this.#large.set(cluster, now);
    else if (this.#large.size > 0) this.#large.delete(cluster);
  }

  /** The count, which is 0 from now on. */
  take(cluster: number): number {
    const count = this.get(cluster);
    if (count > 0) this.add(cluster, -count);
    return count;
  }

  /** Whether anything from `first` on, up to `end`, may be above 0. */
  mayHave(first: number, end: number): boolean {
    for (let page = Math.floor(first / PAGE); page * PAGE < end; page++) if (this.#pages.has(page)) return true;
    return false;
  }

  /** Clusters whose count is above 0, ascending. */
  *clusters(): Generator<number> {
    for (const number of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const page = this.#pages.get(number)!;
      for (let i = 0; i < PAGE; i++) if (page[i]! > 0) yield number * PAGE + i;
    }
  }

  #page(number: number): Uint16Array {
    let page = this.#pages.get(number);
    if (page) return page;
    if (this.#pages.size >= MOST_PAGES)
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot check ${this.#label}: it uses clusters all over the file, allowed ${MOST_PAGES * PAGE} clusters in ${MOST_PAGES} groups`,
      );
    page = new Uint16Array(PAGE);
    this.#pages.set(number, page);
    return page;
  }
}
