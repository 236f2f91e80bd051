/**
 * What a backend has taken from a ring and not yet answered, in memory of the backend's own domain that outlives its thread.
 *
 * A response is written over the slot of some request that was taken before it, often another one: after a thread has
 * died within a batch, the shared ring alone cannot tell which requests have no answer, nor give them back. So each is kept
 * here from when it is taken until its answer is published.
 *
 *   word 0: 1 once in use; word 1: req_cons; then one entry for each slot of the ring:
 *   state, index of the request, index of its response, the slot's words
 *
 * State after a death at any point: a request is Taken before req_cons covers it, so it is in the journal or still in the
 * ring; it is Answered before its response is written, and free only after rsp_prod covers that; whatever is Answered at
 * or behind rsp_prod was not published, and is done again.
 */

const USED = 0;
const REQ_CONS = 1;
const ENTRIES = 2;

const STATE = 0;
const REQUEST = 1;
const RESPONSE = 2;
const SLOT = 3;

const FREE = 0;
const TAKEN = 1;
const ANSWERED = 2;

/** Bytes of the journal of a ring of `size` slots of `stride` bytes. */
export function ringJournalBytes(size: number, stride: number): number {
  return (ENTRIES + size * (SLOT + stride / 4)) * 4;
}

/** Where a backend before this one has come to. */
export interface RecoveredRing {
  readonly reqCons: number;
  /** Entries of requests without an answer, in the order in which they were taken. */
  readonly unanswered: readonly number[];
}

export class RingJournal {
  readonly #words: Int32Array;
  readonly #size: number;
  readonly #entryWords: number;
  readonly #slotWords: number;
  readonly #free: number[] = [];
  readonly #answered: number[] = [];

  /** `memory` has `ringJournalBytes`, zeros at first, and is one ring's alone. */
  constructor(memory: SharedArrayBuffer, size: number, stride: number) {
    this.#words = new Int32Array(memory);
    this.#size = size;
    this.#slotWords = stride / 4;
    this.#entryWords = SLOT + this.#slotWords;
  }

  /** To be called once, before anything else. `rspProd`: what the frontend sees. Null when there is nothing to go on with, or it does not fit this ring. */
  recover(rspProd: number): RecoveredRing | null {
    const found = this.#words[USED] === 1 ? this.#recovered(rspProd) : null;
    if (!found) this.#words.fill(FREE);
    const kept = new Set(found?.unanswered);
    for (let entry = this.#size - 1; entry >= 0; entry--) {
      // An answer that was not published is none: another will get its index.
      this.#words[this.#at(entry) + STATE] = kept.has(entry) ? TAKEN : FREE;
      if (!kept.has(entry)) this.#free.push(entry);
    }
    return found;
  }

  /** Keeps the request of that index; returns its entry. */
  take(index: number, slot: Int32Array): number {
    const words = this.#words;
    const entry = this.#free.pop()!; // a ring has no more requests without an answer than slots
    const at = this.#at(entry);
    words.set(slot, at + SLOT);
    words[at + REQUEST] = index;
    Atomics.store(words, at + STATE, TAKEN);
    Atomics.store(words, REQ_CONS, index + 1);
    Atomics.store(words, USED, 1);
    return entry;
  }

  /** The slot of an entry that was recovered. */
  read(entry: number, into: Int32Array): void {
    const at = this.#at(entry) + SLOT;
    for (let i = 0; i < this.#slotWords; i++) into[i] = this.#words[at + i]!;
  }

  /** Its response is about to be written as the one of that index. */
  answer(entry: number, index: number): void {
    const at = this.#at(entry);
    this.#words[at + RESPONSE] = index;
    Atomics.store(this.#words, at + STATE, ANSWERED);
    this.#answered.push(entry);
  }

  /** All responses that were written are behind rsp_prod. */
  published(): void {
    for (const entry of this.#answered) {
      this.#words[this.#at(entry) + STATE] = FREE;
      this.#free.push(entry);
    }
    this.#answered.length = 0;
  }

  #at(entry: number): number {
    return ENTRIES + entry * this.#entryWords;
  }

  #recovered(rspProd: number): RecoveredRing | null {
    const words = this.#words;
    let reqCons = words[REQ_CONS]! >>> 0;
    const open: { entry: number; request: number }[] = [];
    for (let entry = 0; entry < this.#size; entry++) {
      const at = this.#at(entry);
      const isOpen =
        words[at + STATE] === TAKEN || (words[at + STATE] === ANSWERED && isFrom(words[at + RESPONSE]!, rspProd));
      if (!isOpen) continue;
      const request = words[at + REQUEST]! >>> 0;
      if (isFrom(request, reqCons)) reqCons = (request + 1) >>> 0; // died before req_cons was written down
      open.push({ entry, request });
    }
    // Each request that was taken has an answer that the frontend sees, or is open: else this is another ring's journal.
    if (open.length !== (reqCons - rspProd) >>> 0) return null;
    open.sort((a, b) => (a.request - b.request) | 0);
    return { reqCons, unanswered: open.map(({ entry }) => entry) };
  }
}

/** Whether a free-running index is at `start` or behind it. */
function isFrom(index: number, start: number): boolean {
  return ((index - start) | 0) >= 0;
}
