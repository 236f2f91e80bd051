/**
 * How fast guests may change the store while others hold transactions, so that theirs can commit (XSA-206):
 * each domain has a burst of its own, and what refills them is shared by all that have used some of theirs.
 */

/** Changes that a domain may make at once. */
const BURST = 10;
/** Changes per millisecond, of all domains together. */
const RATE = 200 / 1000;

export class WriteRate {
  /** Of domains that have less than their burst; below zero for one that must wait. */
  readonly #credits = new Map<number, number>();
  #refilled = 0;

  /** Takes account of one change at `now`; returns for how many milliseconds the domain is not to be served. */
  debit(domid: number, now: number): number {
    this.#refill(now);
    const credit = (this.#credits.get(domid) ?? BURST) - 1;
    this.#credits.set(domid, credit);
    return credit >= 0 ? 0 : Math.ceil((-credit * this.#credits.size) / RATE);
  }

  forget(domid: number): void {
    this.#credits.delete(domid);
  }

  #refill(now: number): void {
    const share = (RATE * (now - this.#refilled)) / Math.max(1, this.#credits.size);
    this.#refilled = now;
    for (const [domid, credit] of this.#credits) {
      if (credit + share >= BURST) this.#credits.delete(domid);
      else this.#credits.set(domid, credit + share);
    }
  }
}
