/**
 * The shared ring of ring.h (Xen public headers 4.17), both halves, over the words of its pages.
 * Indices are free-running u32, compared only by difference; a slot is `index & (size - 1)`.
 * Atomics give the barriers: everything before a store of req_prod or rsp_prod is seen by whoever loads it.
 *
 *   word 0 req_prod   1 req_event   2 rsp_prod   3 rsp_event   4..15 private   16.. slots of `stride` bytes
 *
 * 1 to 16 pages, which RingWords joins. The ring does not know what a slot holds.
 */
import { DiskError } from "../errors.js";
import type { RingWords } from "./platform/ring-words.js";
import type { RingJournal } from "./ring-journal.js";

const REQ_PROD = 0;
const REQ_EVENT = 1;
const RSP_PROD = 2;
const RSP_EVENT = 3;
const FIRST_SLOT = 16;

/** Words of blkif_response: id, then operation and status. */
const RESPONSE_WORDS = 3;

/** Slots of a ring: the largest power of two that fits behind the 64-byte header. */
export function ringSize(bytes: number, stride: number): number {
  return 2 ** Math.floor(Math.log2((bytes - 64) / stride));
}

/** Where a frontend is on its ring, in the names of ring.h. `req_event` and `rsp_prod` are the backend's, as they were seen last. */
export interface FrontRingIndices {
  /** Slots. */
  readonly size: number;
  readonly req_prod: number;
  readonly req_event: number;
  readonly rsp_prod: number;
  readonly rsp_cons: number;
  readonly rsp_event: number;
}

/** Where a backend is. `req_prod` and `rsp_event` are the frontend's, as they were seen last. */
export interface BackRingIndices {
  readonly size: number;
  readonly req_prod: number;
  readonly req_cons: number;
  readonly req_event: number;
  readonly rsp_prod: number;
  readonly rsp_event: number;
}

/** The frontend's half. The frontend alone initialises the ring. */
export class FrontRing {
  readonly size: number;
  readonly #words: RingWords;
  readonly #slotWords: number;
  readonly #response = new Int32Array(RESPONSE_WORDS);
  #reqProdPvt = 0;
  #reqEventSeen = 1;
  #rspProdSeen = 0;
  #rspCons = 0;
  #rspEvent = 1;

  constructor(words: RingWords, stride: number) {
    this.#words = words;
    this.#slotWords = stride / 4;
    this.size = ringSize(words.byteLength, stride);
    words.clear();
    words.store(REQ_EVENT, 1);
    words.store(RSP_EVENT, 1);
  }

  /** Slots that may still be written. */
  get free(): number {
    return this.size - ((this.#reqProdPvt - this.#rspCons) >>> 0);
  }

  /** Without a look at the shared memory. */
  get indices(): FrontRingIndices {
    return {
      size: this.size,
      req_prod: this.#reqProdPvt,
      req_event: this.#reqEventSeen,
      rsp_prod: this.#rspProdSeen,
      rsp_cons: this.#rspCons,
      rsp_event: this.#rspEvent,
    };
  }

  /** Writes a request into the next slot; the backend sees it after `push`. The caller checks `free`. */
  put(request: Int32Array): void {
    this.#words.copyIn(FIRST_SLOT + (this.#reqProdPvt & (this.size - 1)) * this.#slotWords, request);
    this.#reqProdPvt = (this.#reqProdPvt + 1) >>> 0;
  }

  /** Publishes what was put; true when the backend asked to be told. */
  push(): boolean {
    const old = this.#words.load(REQ_PROD);
    this.#words.store(REQ_PROD, this.#reqProdPvt);
    const reqEvent = this.#words.load(REQ_EVENT);
    this.#reqEventSeen = reqEvent;
    return crossed(old, this.#reqProdPvt, reqEvent);
  }

  /** Calls `each` with a private copy of each response (valid during the call), up to `most` of them. Throws `PROTOCOL` when the backend's index is impossible. */
  takeResponses(each: (response: Int32Array) => void, most = this.size): number {
    const rspProd = this.#words.load(RSP_PROD);
    this.#rspProdSeen = rspProd;
    const count = (rspProd - this.#rspCons) >>> 0;
    if (count > (this.#reqProdPvt - this.#rspCons) >>> 0)
      throw new DiskError(
        "PROTOCOL",
        `Cannot read the ring: the backend published ${count} responses, ${(this.#reqProdPvt - this.#rspCons) >>> 0} are outstanding`,
      );
    const taken = Math.min(count, most);
    for (let i = 0; i < taken; i++) {
      this.#words.copyOut(FIRST_SLOT + (this.#rspCons & (this.size - 1)) * this.#slotWords, this.#response);
      this.#rspCons = (this.#rspCons + 1) >>> 0;
      each(this.#response);
    }
    return taken;
  }

  /** Asks to be told of the next response; true when one has come meanwhile and must be taken first. */
  finalCheckForResponses(): boolean {
    this.#rspEvent = (this.#rspCons + 1) >>> 0;
    this.#words.store(RSP_EVENT, this.#rspEvent);
    return this.#words.load(RSP_PROD) !== this.#rspCons;
  }
}

/**
 * The backend's half. It takes over whatever indices it finds, so that a restarted backend can go on: with a journal at
 * the request behind the last one that was taken, after those that it keeps; without one at rsp_prod, which is right when
 * the backend before it had answered all that it had taken.
 */
export class BackRing {
  readonly size: number;
  readonly #words: RingWords;
  readonly #slotWords: number;
  readonly #response = new Int32Array(RESPONSE_WORDS);
  #reqCons: number;
  #rspProdPvt: number;
  #reqProdSeen = 0;
  #reqEvent: number;
  #rspEventSeen: number;
  /** Whether another backend has answered on this ring before. */
  readonly resumed: boolean;
  readonly #journal: RingJournal | undefined;
  /** Entries of the journal to take again, before what is in the ring. */
  readonly #again: number[];

  /** Throws `PROTOCOL` when the indices found cannot be true. */
  constructor(words: RingWords, stride: number, journal?: RingJournal) {
    this.#words = words;
    this.#slotWords = stride / 4;
    this.size = ringSize(words.byteLength, stride);
    this.#rspProdPvt = words.load(RSP_PROD);
    this.#journal = journal;
    const found = journal?.recover(this.#rspProdPvt);
    this.#reqCons = found?.reqCons ?? this.#rspProdPvt;
    this.#again = [...(found?.unanswered ?? [])];
    this.#reqEvent = words.load(REQ_EVENT);
    this.#rspEventSeen = words.load(RSP_EVENT);
    this.resumed = this.#rspProdPvt !== 0;
    this.available();
  }

  /** Without a look at the shared memory: also after the ring was let go. */
  get indices(): BackRingIndices {
    return {
      size: this.size,
      req_prod: this.#reqProdSeen,
      req_cons: this.#reqCons,
      req_event: this.#reqEvent,
      rsp_prod: this.#rspProdPvt,
      rsp_event: this.#rspEventSeen,
    };
  }

  /** Memory for one slot, as long as `take` copies. */
  newSlot(): Int32Array {
    return new Int32Array(this.#slotWords);
  }

  /**
   * Requests to take now; the producer's index is read once for all of them.
   * Throws `PROTOCOL` when the frontend's index is impossible: stop this ring for good.
   */
  available(): number {
    const reqProd = this.#words.load(REQ_PROD);
    this.#reqProdSeen = reqProd;
    const ahead = (reqProd - this.#rspProdPvt) >>> 0;
    if (ahead > this.size)
      throw new DiskError(
        "PROTOCOL",
        `Cannot read the ring: the frontend published ${ahead} requests, allowed ${this.size}`,
      );
    return this.#again.length + ((reqProd - this.#reqCons) >>> 0);
  }

  /** Copies the next request, whole, into private memory, and returns its entry in the journal. Only after `available` said that there is one. */
  take(into: Int32Array): number {
    const entry = this.#again.shift();
    if (entry !== undefined) {
      this.#journal!.read(entry, into);
      return entry;
    }
    this.#words.copyOut(FIRST_SLOT + (this.#reqCons & (this.size - 1)) * this.#slotWords, into);
    const taken = this.#journal?.take(this.#reqCons, into) ?? 0;
    this.#reqCons = (this.#reqCons + 1) >>> 0;
    return taken;
  }

  /** Writes one response; the frontend sees it after `push`. `tail` is operation and status (blkif_response, bytes 8 to 11), `entry` what `take` returned. */
  respond(idLow: number, idHigh: number, tail: number, entry: number): void {
    this.#journal?.answer(entry, this.#rspProdPvt);
    this.#response[0] = idLow;
    this.#response[1] = idHigh;
    this.#response[2] = tail;
    this.#words.copyIn(FIRST_SLOT + (this.#rspProdPvt & (this.size - 1)) * this.#slotWords, this.#response);
    this.#rspProdPvt = (this.#rspProdPvt + 1) >>> 0;
  }

  /** Publishes the responses; true when the frontend asked to be told. */
  push(): boolean {
    const old = this.#words.load(RSP_PROD);
    this.#words.store(RSP_PROD, this.#rspProdPvt);
    this.#journal?.published();
    const rspEvent = this.#words.load(RSP_EVENT);
    this.#rspEventSeen = rspEvent;
    return crossed(old, this.#rspProdPvt, rspEvent);
  }

  /** Asks to be told of the next request; true when one has come meanwhile and must be taken first. */
  finalCheckForRequests(): boolean {
    this.#reqEvent = (this.#reqCons + 1) >>> 0;
    this.#words.store(REQ_EVENT, this.#reqEvent);
    return this.available() > 0;
  }
}

/** Whether `event` lies in (old, now]: the test of RING_PUSH_*_AND_CHECK_NOTIFY. */
function crossed(old: number, now: number, event: number): boolean {
  return (now - event) >>> 0 < (now - old) >>> 0;
}
