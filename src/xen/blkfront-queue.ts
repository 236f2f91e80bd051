/**
 * The frontend's data plane (Linux blkfront.c in behaviour): one ring of one page, up to 11 segments (44 KiB) a request.
 * Every slot owns 11 contiguous pages and 11 grant references: data is copied between them and the caller's buffer, and
 * the pages are granted to the backend only while a request that uses them is outstanding.
 * A response is copied before it is looked at; one that contradicts what was asked disables the device for good.
 */
import { DiskError } from "../errors.js";
import {
  ABIS,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  BLKIF_RSP,
  NATIVE_PROTOCOL,
  SECTOR,
  SECTORS_PER_PAGE,
} from "./blkif/layout.js";
import { type OwnPages, PAGE_SIZE, type XenPlatform } from "./platform/platform.js";
import { FrontRing } from "./ring.js";
import type { VcpuWork } from "./vcpu-loop.js";

export const MAX_REQUEST_BYTES = BLKIF_MAX_SEGMENTS_PER_REQUEST * PAGE_SIZE;
const ABI = ABIS[NATIVE_PROTOCOL]!;

/** One call of read, write, flush or discard: done when all of its requests are. */
interface Operation {
  readonly code: number;
  readonly buffer: Uint8Array | undefined;
  left: number;
  status: number;
  resolve(): void;
  reject(error: Error): void;
}

/** A part of an operation that fits one request. Bytes. */
interface Request {
  readonly operation: Operation;
  readonly offset: number;
  readonly length: number;
  /** Where it starts in the operation's buffer. */
  readonly from: number;
}

interface Slot {
  readonly pages: OwnPages;
  readonly refs: readonly number[];
  request: Request | undefined;
}

export class BlkfrontQueue implements VcpuWork {
  readonly ringRef: number;
  readonly eventChannel: number;
  readonly #platform: XenPlatform;
  readonly #backend: number;
  readonly #ringPages: OwnPages;
  readonly #ring: FrontRing;
  readonly #slots: Slot[] = [];
  readonly #freeSlots: number[] = [];
  readonly #words = new Int32Array(ABI.stride / 4);
  #waiting: Request[] = [];
  #pushScheduled = false;
  #flushSupported = true;
  #onIdle: (() => void) | undefined;
  /** Why the device was disabled. */
  failure: DiskError | undefined;
  inFlight = 0;

  /** Allocates the ring, grants it to `backend` and opens an event channel for it. */
  constructor(platform: XenPlatform, backend: number) {
    this.#platform = platform;
    this.#backend = backend;
    const { grants, events } = platform;
    this.#ringPages = grants.allocatePages(1);
    this.#ring = new FrontRing(this.#ringPages.bytes, ABI.stride);
    this.ringRef = grants.grantAccess(backend, this.#ringPages.firstFrame, false);
    this.eventChannel = events.allocUnbound(backend);
    events.listen(this.eventChannel, () => this.#takeResponses());
    for (let i = 0; i < this.#ring.size; i++) {
      const pages = grants.allocatePages(BLKIF_MAX_SEGMENTS_PER_REQUEST);
      this.#slots.push({
        pages,
        refs: Array.from({ length: pages.count }, () => grants.reserveRef()),
        request: undefined,
      });
      this.#freeSlots.push(this.#ring.size - 1 - i);
    }
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#submit(BLKIF_OP.READ, offset, into.length, into);
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#submit(BLKIF_OP.WRITE, offset, data.length, data);
  }

  flush(): Promise<void> {
    return this.#flushSupported ? this.#submit(BLKIF_OP.FLUSH_DISKCACHE, 0, 0, undefined) : Promise.resolve();
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#submit(BLKIF_OP.DISCARD, offset, length, undefined);
  }

  /** Nothing to take: responses arrive through the event channel's handler. */
  take(): number {
    return 0;
  }

  publish(): void {
    if (!this.#pushScheduled) return;
    this.#pushScheduled = false;
    if (this.#ring.push() && !this.failure) this.#platform.events.notify(this.eventChannel);
  }

  finalCheck(): boolean {
    if (this.failure || this.inFlight === 0 || !this.#ring.finalCheckForResponses()) return false;
    this.#takeResponses();
    return true;
  }

  /** Resolves when nothing is outstanding any more. */
  async idle(): Promise<void> {
    while (this.inFlight > 0 && !this.failure)
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
  }

  /** Fails what is outstanding and takes ring, pages and event channel back. */
  close(reason: string): void {
    this.#disable(new DiskError("IO", reason));
    const { grants, events } = this.#platform;
    events.close(this.eventChannel);
    // A page that the backend still maps is leaked on purpose: it must never be used for anything else.
    for (const slot of this.#slots)
      if (slot.refs.every((ref) => grants.clearAccess(ref))) {
        for (const ref of slot.refs) grants.releaseRef(ref);
        grants.freePages(slot.pages);
      }
    if (grants.endAccess(this.ringRef)) grants.freePages(this.#ringPages);
    this.#slots.length = 0;
  }

  #submit(code: number, offset: number, length: number, buffer: Uint8Array | undefined): Promise<void> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      const requests = buffer ? Math.ceil(length / MAX_REQUEST_BYTES) : 1;
      const operation: Operation = { code, buffer, left: requests, status: BLKIF_RSP.OKAY, resolve, reject };
      for (let i = 0; i < requests; i++) {
        const from = i * MAX_REQUEST_BYTES;
        this.#waiting.push({
          operation,
          offset: offset + from,
          length: buffer ? Math.min(MAX_REQUEST_BYTES, length - from) : length,
          from,
        });
      }
      this.#pump();
    });
  }

  /** Fills free slots. They are pushed together once the callers of this turn have all had their say. */
  #pump(): void {
    let taken = 0;
    while (taken < this.#waiting.length && this.#freeSlots.length > 0)
      this.#put(this.#freeSlots.pop()!, this.#waiting[taken++]!);
    if (taken === 0) return;
    this.#waiting = taken === this.#waiting.length ? [] : this.#waiting.slice(taken);
    if (this.#pushScheduled) return;
    this.#pushScheduled = true;
    queueMicrotask(() => this.publish());
  }

  #put(id: number, request: Request): void {
    const slot = this.#slots[id]!;
    const words = this.#words.fill(0);
    const { code, buffer } = request.operation;
    const sector = request.offset / SECTOR;
    words[ABI.idWord] = id;
    words[ABI.sectorWord] = sector;
    words[ABI.sectorWord + 1] = Math.floor(sector / 2 ** 32);
    if (buffer) words[0] = code | (this.#putSegments(slot, request, words) << 8);
    else words[0] = code;
    if (code === BLKIF_OP.DISCARD) {
      words[ABI.nrSectorsWord] = request.length / SECTOR;
      words[ABI.nrSectorsWord + 1] = Math.floor(request.length / SECTOR / 2 ** 32);
    }
    slot.request = request;
    this.inFlight++;
    this.#ring.put(words);
  }

  #putSegments(slot: Slot, request: Request, words: Int32Array): number {
    const isWrite = request.operation.code === BLKIF_OP.WRITE;
    if (isWrite) slot.pages.bytes.set(request.operation.buffer!.subarray(request.from, request.from + request.length));
    const segments = Math.ceil(request.length / PAGE_SIZE);
    for (let i = 0; i < segments; i++) {
      const ref = slot.refs[i]!;
      this.#platform.grants.setAccess(ref, this.#backend, slot.pages.firstFrame + i, isWrite);
      const sectors = Math.min(SECTORS_PER_PAGE, (request.length - i * PAGE_SIZE) / SECTOR);
      words[ABI.segmentWord + i * 2] = ref;
      words[ABI.segmentWord + i * 2 + 1] = (sectors - 1) << 8; // first_sect 0, last_sect inclusive
    }
    return segments;
  }

  #takeResponses(): void {
    if (this.failure) return;
    try {
      do this.#ring.takeResponses((response) => this.#complete(response));
      while (this.#ring.finalCheckForResponses());
    } catch (error) {
      this.#disable(error as DiskError);
    }
    this.#pump();
    if (this.inFlight === 0) this.#onIdle?.();
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
    if (operation.buffer) this.#takeBack(slot, request, status);
    slot.request = undefined;
    this.#freeSlots.push(id);
    this.inFlight--;
    this.#settle(operation, status);
  }

  /** Revokes the grants, and copies what was read only after that: from then on the backend cannot change it. */
  #takeBack(slot: Slot, request: Request, status: number): void {
    const segments = Math.ceil(request.length / PAGE_SIZE);
    for (let i = 0; i < segments; i++)
      if (!this.#platform.grants.clearAccess(slot.refs[i]!))
        throw forged(`it answered while it still had page ${i} mapped`);
    const { code, buffer } = request.operation;
    if (code !== BLKIF_OP.READ || status !== BLKIF_RSP.OKAY) return;
    const { bytes } = slot.pages;
    buffer!.set(request.length === bytes.length ? bytes : bytes.subarray(0, request.length), request.from);
  }

  #settle(operation: Operation, status: number): void {
    if (status === BLKIF_RSP.EOPNOTSUPP && operation.code === BLKIF_OP.FLUSH_DISKCACHE) this.#flushSupported = false;
    else if (status === BLKIF_RSP.EOPNOTSUPP && operation.code === BLKIF_OP.DISCARD)
      operation.status = BLKIF_RSP.OKAY; // a hint
    else if (status !== BLKIF_RSP.OKAY) operation.status = status;
    if (--operation.left > 0) return;
    if (operation.status === BLKIF_RSP.OKAY) operation.resolve();
    else
      operation.reject(
        new DiskError(
          "IO",
          `Cannot ${VERBS[operation.code]} the device: the backend answered status ${operation.status}`,
        ),
      );
  }

  #disable(reason: DiskError): void {
    if (this.failure) return;
    this.failure = reason;
    const lost = new Set(
      [...this.#slots.map((slot) => slot.request), ...this.#waiting].map((request) => request?.operation),
    );
    this.#waiting = [];
    for (const slot of this.#slots) slot.request = undefined;
    this.inFlight = 0;
    for (const operation of lost) operation?.reject(reason);
    this.#onIdle?.();
  }
}

const VERBS: Readonly<Record<number, string>> = {
  [BLKIF_OP.READ]: "read",
  [BLKIF_OP.WRITE]: "write",
  [BLKIF_OP.FLUSH_DISKCACHE]: "flush",
  [BLKIF_OP.DISCARD]: "discard on",
};

function forged(what: string): DiskError {
  return new DiskError("PROTOCOL", `Cannot trust the block backend: ${what}; the device is disabled`);
}
