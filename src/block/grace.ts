/**
 * When space that was given up may be used again: not before every request that may still have its address has ended.
 * Requests are counted in two turns; a release waits for the turn in which it was asked for, and new requests count in the other.
 */
export class GracePeriod {
  readonly #active = [0, 0];
  readonly #waiting: (() => void)[][] = [[], []];
  #turn: 0 | 1 = 0;

  /** Runs a request that looks up addresses and uses them. */
  async run<T>(request: () => Promise<T>): Promise<T> {
    const turn = this.#turn;
    this.#active[turn]!++;
    try {
      return await request();
    } finally {
      if (--this.#active[turn]! === 0) this.#settle();
    }
  }

  /** Calls `release` once the requests of now have ended; may be called within one of them. */
  after(release: () => void): void {
    this.#waiting[this.#turn]!.push(release);
    this.#settle();
  }

  #settle(): void {
    const [now, other] = [this.#turn, this.#turn === 0 ? 1 : 0] as const;
    if (this.#active[other] === 0) {
      for (const release of this.#waiting[other]!.splice(0)) release();
      if (this.#waiting[now]!.length > 0 && this.#active[now]! > 0) this.#turn = other;
    }
    if (this.#active[now] === 0) for (const release of this.#waiting[now]!.splice(0)) release();
  }
}
