/**
 * The frontend's data plane (Linux blkfront.c in behaviour): one ring. A request carries up to 11 segments (44 KiB) in its
 * slot, or more through a page of segments where the backend takes indirect requests.
 * Data is copied between the caller's buffer and pages of the ring's own, which are granted to the backend while a request
 * that uses them is outstanding, or, with persistent grants, until the ring closes.
 * A response is copied before it is looked at; one that contradicts what was asked disables the device for good.
 */
import type { UseBytes } from "../block/lent-read.js";
import { DiskError } from "../errors.js";
import { type RequestPages, RequestPagesPool } from "./blkfront-pages.js";
import { endRequest, movesData, type Operation, type Request, splitRequest, wholeRequest } from "./blkfront-request.js";
import type { FrontRingState } from "./blkfront-state.js";
import {
  ABIS,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  BLKIF_RSP,
  type BlkifAbi,
  NATIVE_PROTOCOL,
  SECTOR,
  SECTORS_PER_PAGE,
} from "./blkif/layout.js";
import { type OwnPages, PAGE_SIZE, type XenPlatform } from "./platform/platform.js";
import { RingWords } from "./platform/ring-words.js";
import { FrontRing } from "./ring.js";
import type { VcpuWork } from "./vcpu-loop.js";

/** What a frontend and its backend both can; until they agreed, what every backend can. */
export interface RingFeatures {
  /** Segments of a request; above 11 through indirect requests. */
  readonly maxSegments: number;
  readonly persistent: boolean;
  /** How to ask for a flush; undefined: the backend keeps nothing back. */
  readonly flush: typeof BLKIF_OP.FLUSH_DISKCACHE | typeof BLKIF_OP.WRITE_BARRIER | undefined;
  /** False: no page that the backend may map ever holds more than the data of the request at hand (XSA-403). Default true. */
  readonly trusted?: boolean;
}

export const PLAIN_RING: RingFeatures = {
  maxSegments: BLKIF_MAX_SEGMENTS_PER_REQUEST,
  persistent: false,
  flush: BLKIF_OP.FLUSH_DISKCACHE,
};

/** Requests pushed together, and responses taken together, at most: the backend, and the disk behind it, work on the first while we go on. */
const BATCH = 32;

/** What is outstanding under an id. */
interface Slot {
  request: Request | undefined;
  pages: RequestPages | undefined;
}

export class BlkfrontQueue implements VcpuWork {
  /** Of the ring's pages, in its order. */
  readonly ringRefs: readonly number[];
  readonly eventChannel: number;
  readonly #platform: XenPlatform;
  readonly #backend: number;
  readonly #abi: BlkifAbi;
  readonly #ringPages: OwnPages;
  readonly #ring: FrontRing;
  readonly #words: Int32Array;
  readonly #slots: Slot[];
  readonly #freeIds: number[];
  #pages: RequestPagesPool | undefined;
  #features = PLAIN_RING;
  #waiting: Request[] = [];
  /** The backend will tell of the next response. A new ring says so by itself. */
  #asked = true;
  /** There are responses, or were a moment ago: also those that nobody asked for, which disable the device. */
  #told = false;
  /** Requests that the backend does not see yet. */
  #unpushed = 0;
  #pushScheduled = false;
  #notified = 0;
  #suppressed = 0;
  #held = false;
  #onIdle: (() => void) | undefined;
  /** Why the device was disabled. */
  failure: DiskError | undefined;
  inFlight = 0;

  /** Allocates a ring of `ringPages` pages, grants it to `backend` and opens an event channel for it. */
  constructor(platform: XenPlatform, backend: number, ringPages = 1, abi: BlkifAbi = ABIS[NATIVE_PROTOCOL]!) {
    this.#platform = platform;
    this.#backend = backend;
    this.#abi = abi;
    this.#words = new Int32Array(abi.stride / 4);
    const { grants, events } = platform;
    this.#ringPages = grants.allocatePages(ringPages);
    this.#ring = new FrontRing(new RingWords([this.#ringPages.bytes]), abi.stride);
    this.ringRefs = Array.from({ length: ringPages }, (_, i) =>
      grants.grantAccess(backend, this.#ringPages.firstFrame + i, false),
    );
    this.eventChannel = events.allocUnbound(backend);
    events.listen(this.eventChannel, () => {
      this.#told = true;
      this.take();
    });
    this.#slots = Array.from({ length: this.#ring.size }, () => ({ pages: undefined, request: undefined }));
    this.#freeIds = Array.from(this.#slots.keys()).reverse();
  }

  /** What the backend said it can, before the first request. Throws `NO_SPACE` when there is no memory for one request. */
  negotiate(features: RingFeatures): void {
    const { maxSegments, persistent } = features;
    this.#pages = new RequestPagesPool(this.#platform.grants, maxSegments, persistent ? this.#backend : undefined);
    this.#features = features;
  }

  get state(): FrontRingState {
    return {
      ...this.#ring.indices,
      in_flight: this.inFlight,
      waiting: this.#waiting.length,
      max_segments: this.#features.maxSegments,
      notified: this.#notified,
      suppressed: this.#suppressed,
    };
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#submit(BLKIF_OP.READ, offset, into.length, into);
  }

  /** Lends what one request can read, in the pages that the backend has put it into. */
  lend(offset: number, length: number, use: UseBytes): Promise<void> | null {
    const { maxSegments } = this.#features;
    return length <= maxSegments * PAGE_SIZE ? this.#submit(BLKIF_OP.READ, offset, length, undefined, use) : null;
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#submit(BLKIF_OP.WRITE, offset, data.length, data);
  }

  flush(): Promise<void> {
    const { flush } = this.#features;
    return flush === undefined ? Promise.resolve() : this.#submit(flush, 0, 0);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#submit(BLKIF_OP.DISCARD, offset, length);
  }

  /** Takes some responses: their users ask for more, and the backend begins with that, before the next ones are taken. */
  take(): number {
    if (this.failure || (this.inFlight === 0 && !this.#told)) return 0;
    this.#told = false;
    let taken = 0;
    try {
      taken = this.#ring.takeResponses((response) => this.#complete(response), BATCH);
    } catch (error) {
      this.#disable(error as DiskError);
    }
    if (taken > 0) {
      this.#asked = false;
      this.#pump();
    }
    if (this.inFlight === 0) this.#onIdle?.();
    return taken;
  }

  publish(): void {
    if (this.#unpushed === 0) return;
    this.#unpushed = 0;
    if (this.failure) return; // the ring's pages may be somebody else's by now
    if (!this.#ring.push()) {
      this.#suppressed++;
      return;
    }
    this.#notified++;
    this.#platform.events.notify(this.eventChannel);
  }

  finalCheck(): boolean {
    if (this.failure || (this.#asked && this.inFlight === 0)) return false;
    this.#asked = true; // also with nothing outstanding: the next request may come while the thread sleeps
    this.#told = this.#ring.finalCheckForResponses();
    return this.#told;
  }

  /** Resolves when nothing is outstanding any more. */
  async idle(): Promise<void> {
    while (this.inFlight > 0 && !this.failure)
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
  }

  /** Starts no more requests: what is asked for from now on waits. */
  hold(): void {
    this.#held = true;
  }

  /**
   * Takes the answers that the ring still holds, then gives ring, pages and event channel up and returns what was not
   * answered, in its order. The backend has let the ring go: what it took, it has answered.
   */
  leave(reason: string): Request[] {
    this.#held = true;
    while (this.take() > 0);
    const outstanding = this.#slots.map(({ request }) => request).filter((request) => request !== undefined);
    const unanswered = [...outstanding, ...this.#waiting].sort((a, b) => a.order - b.order);
    for (const slot of this.#slots) slot.request = undefined;
    this.#waiting = [];
    this.close(reason);
    return unanswered;
  }

  /** Sends requests of a ring that was left, each split anew as this backend can take it. They end with their operations. */
  requeue(requests: readonly Request[]): void {
    const { maxSegments, flush } = this.#features;
    for (const request of requests) {
      const { operation } = request;
      const isFlush = operation.code === BLKIF_OP.FLUSH_DISKCACHE || operation.code === BLKIF_OP.WRITE_BARRIER;
      if (isFlush && flush === undefined) endRequest(operation, BLKIF_RSP.OKAY);
      else {
        if (isFlush) operation.code = flush!;
        this.#waiting.push(...splitRequest(request, maxSegments * PAGE_SIZE));
      }
    }
    this.#pump();
  }

  /** Fails what is outstanding and takes ring, pages and event channel back. */
  close(reason: string): void {
    this.#disable(new DiskError("IO", reason));
    const { grants, events } = this.#platform;
    events.close(this.eventChannel);
    this.#pages?.close();
    // A page that the backend still maps is leaked on purpose: it must never be used for anything else.
    if (this.ringRefs.map((ref) => grants.endAccess(ref)).every(Boolean)) grants.freePages(this.#ringPages);
  }

  #submit(code: number, offset: number, length: number, buffer?: Uint8Array, use?: UseBytes): Promise<void> {
    if (this.failure) return Promise.reject(this.failure);
    if (!this.#pages) return Promise.reject(new TypeError("a request before the backend said what it can"));
    return new Promise((resolve, reject) => {
      const operation: Operation = { code, buffer, use, left: 1, status: BLKIF_RSP.OKAY, resolve, reject };
      const whole = wholeRequest(operation, offset, length);
      const most = this.#features.maxSegments * PAGE_SIZE;
      if (!buffer || length <= most) this.#waiting.push(whole);
      else for (const part of splitRequest(whole, most)) this.#waiting.push(part);
      this.#pump();
    });
  }

  /** Fills free slots. They are pushed some at a time, the rest once the callers of this turn have all had their say. */
  #pump(): void {
    if (this.#held) return;
    let taken = 0;
    while (taken < this.#waiting.length && this.#start(this.#waiting[taken]!)) taken++;
    if (taken === 0) return;
    this.#waiting = taken === this.#waiting.length ? [] : this.#waiting.slice(taken);
    this.#unpushed += taken;
    if (this.#unpushed >= BATCH) this.publish();
    else this.#publishSoon();
  }

  #publishSoon(): void {
    if (this.#pushScheduled) return;
    this.#pushScheduled = true;
    queueMicrotask(() => {
      this.#pushScheduled = false;
      this.publish();
    });
  }

  /** Puts a request into a free slot; false when there is none, or no memory for its data until others have ended. */
  #start(request: Request): boolean {
    if (this.#freeIds.length === 0) return false;
    const data = movesData(request.operation);
    const pages = data ? this.#pages!.take(Math.ceil(request.length / PAGE_SIZE)) : undefined;
    if (data && !pages) return false;
    const id = this.#freeIds.pop()!;
    const slot = this.#slots[id]!;
    slot.request = request;
    slot.pages = pages;
    this.inFlight++;
    this.#put(id, request, pages);
    return true;
  }

  #put(id: number, request: Request, pages: RequestPages | undefined): void {
    const abi = this.#abi;
    const words = this.#words.fill(0);
    const { code } = request.operation;
    const sector = request.offset / SECTOR;
    words[abi.idWord] = id;
    words[abi.sectorWord] = sector;
    words[abi.sectorWord + 1] = Math.floor(sector / 2 ** 32);
    words[0] = code;
    if (pages) this.#putData(pages, request, words);
    else if (code === BLKIF_OP.DISCARD) {
      words[abi.nrSectorsWord] = request.length / SECTOR;
      words[abi.nrSectorsWord + 1] = Math.floor(request.length / SECTOR / 2 ** 32);
    }
    this.#ring.put(words);
  }

  /** Copies what is written into its pages, grants them, and describes them in the slot or in its indirect page. */
  #putData(pages: RequestPages, request: Request, words: Int32Array): void {
    const { code, buffer } = request.operation;
    if (code === BLKIF_OP.WRITE) pages.data.set(buffer!.subarray(request.from, request.from + request.length));
    const segments = Math.ceil(request.length / PAGE_SIZE);
    if (segments <= BLKIF_MAX_SEGMENTS_PER_REQUEST) {
      words[0] = code | (segments << 8);
      this.#putSegments(pages, request, words, this.#abi.segmentWord);
      return;
    }
    words[0] = BLKIF_OP.INDIRECT | (code << 8) | (segments << 16);
    words[this.#abi.indirectGrefsWord] = pages.indirectRef;
    this.#putSegments(pages, request, pages.indirect!, 0);
    if (!this.#features.persistent)
      this.#platform.grants.setAccess(pages.indirectRef, this.#backend, pages.indirectFrame, true);
  }

  #putSegments(pages: RequestPages, { operation, length }: Request, into: Int32Array, at: number): void {
    const { grants } = this.#platform;
    const readonly = operation.code === BLKIF_OP.WRITE;
    for (let i = 0, left = length; left > 0; i++, left -= PAGE_SIZE) {
      const ref = pages.refs[i]!;
      if (!this.#features.persistent) grants.setAccess(ref, this.#backend, pages.firstFrame + i, readonly);
      into[at + i * 2] = ref;
      into[at + i * 2 + 1] = (Math.min(SECTORS_PER_PAGE, left / SECTOR) - 1) << 8; // first_sect 0, last_sect inclusive
    }
  }

  #complete(response: Int32Array): void {
    const id = response[0]! >>> 0;
    const slot = response[1] === 0 ? this.#slots[id] : undefined;
    const request = slot?.request;
    if (!slot || !request) throw forged(`id ${id} belongs to no outstanding request`);
    const { operation } = request;
    if ((response[2]! & 0xff) !== operation.code)
      throw forged(`operation is ${response[2]! & 0xff}, asked was ${operation.code}`);
    const status = response[2]! >> 16;
    if (slot.pages) this.#takeBack(slot.pages, request, status);
    slot.request = undefined;
    slot.pages = undefined;
    this.#freeIds.push(id);
    this.inFlight--;
    this.#settle(operation, status);
  }

  /** Revokes the grants, and hands out what was read only after that: from then on the backend cannot change it. */
  #takeBack(pages: RequestPages, request: Request, status: number): void {
    if (!this.#features.persistent) this.#revoke(pages, Math.ceil(request.length / PAGE_SIZE));
    const { code, buffer, use } = request.operation;
    const { data } = pages;
    if (code === BLKIF_OP.READ && status === BLKIF_RSP.OKAY) {
      const bytes = request.length === data.length ? data : data.subarray(0, request.length);
      if (use) use(bytes);
      else buffer!.set(bytes, request.from);
    }
    if (this.#features.trusted === false) {
      data.fill(0, 0, request.length);
      pages.indirect?.fill(0);
    }
    this.#pages!.give(pages);
  }

  #revoke(pages: RequestPages, segments: number): void {
    const { grants } = this.#platform;
    for (let i = 0; i < segments; i++)
      if (!grants.clearAccess(pages.refs[i]!)) throw forged(`it answered while it still had page ${i} mapped`);
    if (segments > BLKIF_MAX_SEGMENTS_PER_REQUEST && !grants.clearAccess(pages.indirectRef))
      throw forged("it answered while it still had the indirect page mapped");
  }

  #settle(operation: Operation, status: number): void {
    const refused = status === BLKIF_RSP.EOPNOTSUPP && !movesData(operation);
    if (refused && operation.code === this.#features.flush) this.#features = { ...this.#features, flush: undefined };
    endRequest(operation, refused ? BLKIF_RSP.OKAY : status); // a discard is a hint, and flushes are given up
  }

  #disable(reason: DiskError): void {
    if (this.failure) return;
    this.failure = reason;
    const lost = new Set(
      [...this.#slots.map((slot) => slot.request), ...this.#waiting].map((request) => request?.operation),
    );
    this.#waiting = [];
    for (const slot of this.#slots) slot.request = undefined; // their pages may still be the backend's: they stay out
    this.inFlight = 0;
    for (const operation of lost) operation?.reject(reason);
    this.#onIdle?.();
  }
}

function forged(what: string): DiskError {
  return new DiskError("PROTOCOL", `Cannot trust the block backend: ${what}; the device is disabled`);
}
