/** Which bytes of a read have come. Most reads come in one piece; a hostile server's many are bounded. */

const MAX_GAPS = 4096;

export class Coverage {
  /** Ascending, neither touching nor overlapping: start and end of each run in turn. */
  readonly #edges: number[] = [];
  covered = 0;

  /** False when a byte of `start`..`end` has come before, or the pieces are too many to follow. */
  add(start: number, end: number): boolean {
    const edges = this.#edges;
    const at = this.#firstAfter(start);
    if (at > 0 && edges[at - 1]! > start) return false;
    if (at < edges.length && edges[at]! < end) return false;
    const joinsNext = at < edges.length && edges[at] === end;
    const joinsLast = at > 0 && edges[at - 1] === start;
    this.covered += end - start;
    if (joinsLast && joinsNext) edges.splice(at - 1, 2);
    else if (joinsLast) edges[at - 1] = end;
    else if (joinsNext) edges[at] = start;
    else edges.splice(at, 0, start, end);
    return edges.length <= 2 * MAX_GAPS;
  }

  /** Index of the first run that starts at `start` or later. */
  #firstAfter(start: number): number {
    let [low, high] = [0, this.#edges.length / 2];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#edges[2 * middle]! < start) low = middle + 1;
      else high = middle;
    }
    return 2 * low;
  }
}
