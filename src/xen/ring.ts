/**
 * The shared ring of ring.h (Xen public headers 4.17), both halves, over the words of its pages.
 * Indices are free-running u32, compared only by difference; a slot is `index & (size - 1)`.
 * Atomics give the barriers: everything before a store of req_prod or rsp_prod is seen by whoever loads it.
 *
 *   word 0 req_prod   1 req_event   2 rsp_prod   3 rsp_event   4..15 private   16.. slots of `stride` bytes
 *
 * One page here. The ring does not know what a slot holds.
 */
import { DiskError } from "../errors.js";
import { PAGE_SIZE } from "./platform/platform.js";

const REQ_PROD = 0;
const REQ_EVENT = 1;
const RSP_PROD = 2;
const RSP_EVENT = 3;
const FIRST_SLOT = 16;

/** Slots of a ring: the largest power of two that fits behind the 64-byte header. */
export function ringSize(bytes: number, stride: number): number {
  return 2 ** Math.floor(Math.log2((bytes - 64) / stride));
}

function wordsOf(page: Uint8Array): Int32Array {
  return new Int32Array(page.buffer, page.byteOffset, PAGE_SIZE / 4);
}

/** Copies `stride` bytes of slots as 32-bit words, each read once: the peer may write while we read. */
function copySlot(ring: Int32Array, at: number, into: Int32Array): void {
  for (let i = 0; i < into.length; i++) into[i] = ring[at + i]!;
}

/** The frontend's half. The frontend alone initialises the ring. */
export class FrontRing {
  readonly size: number;
  readonly #words: Int32Array;
  readonly #slotWords: number;
  readonly #response: Int32Array;
  #reqProdPvt = 0;
  #rspCons = 0;

  constructor(page: Uint8Array, stride: number) {
    this.#words = wordsOf(page);
    this.#slotWords = stride / 4;
    this.size = ringSize(page.length, stride);
    this.#response = new Int32Array(this.#slotWords);
    this.#words.fill(0);
    this.#words[REQ_EVENT] = 1;
    Atomics.store(this.#words, RSP_EVENT, 1);
  }

  /** Slots that may still be written. */
  get free(): number {
    return this.size - ((this.#reqProdPvt - this.#rspCons) >>> 0);
  }

  /** Writes a request into the next slot; the backend sees it after `push`. The caller checks `free`. */
  put(request: Int32Array): void {
    const at = FIRST_SLOT + (this.#reqProdPvt & (this.size - 1)) * this.#slotWords;
    this.#words.set(request, at);
    this.#reqProdPvt = (this.#reqProdPvt + 1) >>> 0;
  }

  /** Publishes what was put; true when the backend asked to be told. */
  push(): boolean {
    const old = Atomics.load(this.#words, REQ_PROD) >>> 0;
    Atomics.store(this.#words, REQ_PROD, this.#reqProdPvt | 0);
    return crossed(old, this.#reqProdPvt, Atomics.load(this.#words, REQ_EVENT));
  }

  /** Calls `each` with a private copy of every response (valid during the call). Throws `PROTOCOL` when the backend's index is impossible. */
  takeResponses(each: (response: Int32Array) => void): number {
    const rspProd = Atomics.load(this.#words, RSP_PROD) >>> 0;
    const count = (rspProd - this.#rspCons) >>> 0;
    if (count > (this.#reqProdPvt - this.#rspCons) >>> 0)
      throw new DiskError(
        "PROTOCOL",
        `Cannot read the ring: the backend published ${count} responses, ${(this.#reqProdPvt - this.#rspCons) >>> 0} are outstanding`,
      );
    for (let i = 0; i < count; i++) {
      copySlot(this.#words, FIRST_SLOT + (this.#rspCons & (this.size - 1)) * this.#slotWords, this.#response);
      this.#rspCons = (this.#rspCons + 1) >>> 0;
      each(this.#response);
    }
    return count;
  }

  /** Asks to be told of the next response; true when one has come meanwhile and must be taken first. */
  finalCheckForResponses(): boolean {
    Atomics.store(this.#words, RSP_EVENT, (this.#rspCons + 1) | 0);
    return Atomics.load(this.#words, RSP_PROD) >>> 0 !== this.#rspCons;
  }
}

/** The backend's half. It takes over whatever indices it finds, so that a restarted backend can go on. */
export class BackRing {
  readonly size: number;
  readonly #words: Int32Array;
  readonly #slotWords: number;
  #reqCons: number;
  #rspProdPvt: number;

  /** Throws `PROTOCOL` when the indices found cannot be true. */
  constructor(page: Uint8Array, stride: number) {
    this.#words = wordsOf(page);
    this.#slotWords = stride / 4;
    this.size = ringSize(page.length, stride);
    this.#rspProdPvt = Atomics.load(this.#words, RSP_PROD) >>> 0;
    this.#reqCons = this.#rspProdPvt;
    this.#available();
  }

  /** Bytes of one slot, as the length that `take` copies. */
  newSlot(): Int32Array {
    return new Int32Array(this.#slotWords);
  }

  /** Requests that are on the ring and not taken. Throws `PROTOCOL` when the frontend's index is impossible: stop this ring for good. */
  #available(): number {
    const reqProd = Atomics.load(this.#words, REQ_PROD) >>> 0;
    const ahead = (reqProd - this.#rspProdPvt) >>> 0;
    if (ahead > this.size)
      throw new DiskError(
        "PROTOCOL",
        `Cannot read the ring: the frontend published ${ahead} requests, allowed ${this.size}`,
      );
    return (reqProd - this.#reqCons) >>> 0;
  }

  /** Requests to take now; the producer's index is read once for all of them. */
  available(): number {
    return this.#available();
  }

  /** Copies the next request, whole, into private memory. Only after `available` said that there is one. */
  take(into: Int32Array): void {
    copySlot(this.#words, FIRST_SLOT + (this.#reqCons & (this.size - 1)) * this.#slotWords, into);
    this.#reqCons = (this.#reqCons + 1) >>> 0;
  }

  /** Writes one response; the frontend sees it after `push`. `tail` is operation and status (blkif_response, bytes 8 to 11). */
  respond(idLow: number, idHigh: number, tail: number): void {
    const at = FIRST_SLOT + (this.#rspProdPvt & (this.size - 1)) * this.#slotWords;
    this.#words[at] = idLow;
    this.#words[at + 1] = idHigh;
    this.#words[at + 2] = tail;
    this.#rspProdPvt = (this.#rspProdPvt + 1) >>> 0;
  }

  /** Publishes the responses; true when the frontend asked to be told. */
  push(): boolean {
    const old = Atomics.load(this.#words, RSP_PROD) >>> 0;
    Atomics.store(this.#words, RSP_PROD, this.#rspProdPvt | 0);
    return crossed(old, this.#rspProdPvt, Atomics.load(this.#words, RSP_EVENT));
  }

  /** Asks to be told of the next request; true when one has come meanwhile and must be taken first. */
  finalCheckForRequests(): boolean {
    Atomics.store(this.#words, REQ_EVENT, (this.#reqCons + 1) | 0);
    return this.#available() > 0;
  }
}

/** Whether `event` lies in (old, now]: the test of RING_PUSH_*_AND_CHECK_NOTIFY. */
function crossed(old: number, now: number, event: number): boolean {
  return (now - event) >>> 0 < (now - old) >>> 0;
}
