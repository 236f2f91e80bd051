/**
 * The data plane of one ring of a connected vbd: ring, grants and the device behind them (Linux blkback.c in behaviour).
 * A request's life: take (private copy) -> parse -> map its grants -> read or write straight from the pages -> unmap -> respond.
 * Pages are unmapped before the response: the frontend takes its grant back as soon as it sees it.
 * What a guest sends is answered, never thrown; an impossible ring index stops this ring for good.
 */
import type { BlockDevice } from "../block/device.js";
import { isZero } from "../bytes/align.js";
import { MONOTONIC_CLOCK } from "../os/clock.js";
import { RequestGrants } from "./blkback-grants.js";
import { type BackRingState, newStatistics, RequestLatency } from "./blkback-statistics.js";
import { BLKIF_OP, BLKIF_RSP, type BlkifAbi } from "./blkif/layout.js";
import { BlkifRequest, type VbdLimits } from "./blkif/request.js";
import { GNTST, type MappedRing, PAGE_SIZE, type XenPlatform } from "./platform/platform.js";
import { BackRing, ringSize } from "./ring.js";
import { RingJournal } from "./ring-journal.js";
import type { VcpuWork } from "./vcpu-loop.js";

/** A pass takes requests up to this much data, then answers: the frontend works on the first answers while we go on. */
const BATCH_BYTES = 64 << 10;

/** Bytes; less than a file system's block cannot become a hole. */
const HOLE_UNIT = 4096;

export interface RingAddress {
  readonly frontendDomid: number;
  /** The ring's pages, in its order. */
  readonly ringRefs: readonly number[];
  readonly eventChannel: number;
  readonly abi: BlkifAbi;
  /** Of `ringJournalBytes`: what a backend that died had not answered is done by the next one. Default: none is kept. */
  readonly journal?: SharedArrayBuffer;
  /** Default false. */
  readonly persistent?: boolean;
  /** Default 0: indirect requests were not offered. */
  readonly maxIndirectSegments?: number;
}

export class BlkbackQueue implements VcpuWork {
  readonly statistics = newStatistics();
  readonly latency = new RequestLatency();
  readonly grants: RequestGrants;
  readonly #platform: XenPlatform;
  readonly #device: BlockDevice;
  readonly #limits: VbdLimits;
  readonly #abi: BlkifAbi;
  readonly #onWake: () => void;
  readonly #now: () => number;
  readonly #mapping: MappedRing;
  readonly #port: number;
  readonly #ring: BackRing;
  readonly #slot: Int32Array;
  readonly #idleRequests: BlkifRequest[] = [];
  /** Answered, and not yet published. */
  readonly #ended: BlkifRequest[] = [];
  #notified = 0;
  #suppressed = 0;
  /** Alone on the disk: what came before it is done first, what comes after it waits. */
  #barrier: BlkifRequest | undefined;
  /** Above 0: nothing is taken. */
  #held = 0;
  #onDrained: (() => void) | undefined;
  /** Why the ring was stopped for good. */
  failure: Error | undefined;
  inFlight = 0;

  /**
   * Maps the ring and binds the event channel. Throws and leaves nothing behind when the frontend's keys are bad.
   * `now`: milliseconds of a clock that never goes back.
   */
  constructor(
    platform: XenPlatform,
    device: BlockDevice,
    limits: VbdLimits,
    address: RingAddress,
    onWake: () => void,
    now: () => number = MONOTONIC_CLOCK.now,
  ) {
    this.#platform = platform;
    this.#device = device;
    this.#limits = limits;
    this.#abi = address.abi;
    this.#onWake = onWake;
    this.#now = now;
    const { frontendDomid, persistent = false, maxIndirectSegments = 0 } = address;
    this.grants = new RequestGrants(platform.foreign, { frontendDomid, persistent, maxIndirectSegments });
    this.#mapping = mapRing(platform, address);
    try {
      this.#ring = new BackRing(this.#mapping.words, address.abi.stride, journalOf(address));
      this.#port = platform.events.bindInterdomain(frontendDomid, address.eventChannel);
    } catch (error) {
      this.#mapping.unmap();
      throw error;
    }
    this.#slot = this.#ring.newSlot();
    platform.events.listen(this.#port, () => {});
    // A backend before this one may have ended between an answer and its notification.
    if (this.#ring.resumed) this.#notify();
  }

  /** At any time, also while it closes and after. */
  get state(): BackRingState {
    return {
      ...this.#ring.indices,
      in_flight: this.inFlight,
      notified: this.#notified,
      suppressed: this.#suppressed,
      port: this.#port,
      mapped_grants: this.grants.mapped,
      persistent_grants: this.grants.kept,
    };
  }

  take(): number {
    const count = this.#available();
    if (count === 0) return 0;
    const now = this.#now();
    let taken = 0;
    for (let bytes = 0; taken < count && bytes < BATCH_BYTES && !this.#barrier; taken++) {
      const entry = this.#ring.take(this.#slot);
      const request = this.#idleRequests.pop() ?? new BlkifRequest();
      request.entry = entry;
      request.begun = now;
      this.#start(request);
      bytes += request.length;
    }
    return taken;
  }

  publish(): void {
    if (this.#ended.length === 0) return;
    if (this.#ring.push()) this.#notify();
    else this.#suppressed++;
    this.#recordEnded();
  }

  finalCheck(): boolean {
    if (this.failure || this.#held > 0 || this.#barrier) return false;
    try {
      return this.#ring.finalCheckForRequests();
    } catch (error) {
      this.failure = error as Error;
      return false;
    }
  }

  /** Runs `task` while nothing of this ring is in flight; what comes meanwhile waits. */
  async quiesced<T>(task: () => Promise<T>): Promise<T> {
    await this.#drain();
    try {
      return await task();
    } finally {
      this.#held--;
      this.#onWake();
    }
  }

  /** Waits for what is in flight, answers it, and lets ring, grants and event channel go. The device stays open. */
  async close(): Promise<void> {
    await this.#drain();
    this.publish();
    this.#platform.events.close(this.#port);
    this.grants.close();
    this.#mapping.unmap();
  }

  /** Takes nothing more; resolves when nothing is in flight. */
  async #drain(): Promise<void> {
    this.#held++;
    if (this.inFlight === 0) return;
    const others = this.#onDrained;
    await new Promise<void>((resolve) => {
      this.#onDrained = () => {
        others?.();
        resolve();
      };
    });
  }

  /** The clock is asked once for all of a batch; the frontend was told before. */
  #recordEnded(): void {
    const now = this.#now();
    for (const request of this.#ended) {
      if (request.begun >= 0) this.latency.record(request.operation, (now - request.begun) * 1000);
      this.#idleRequests.push(request);
    }
    this.#ended.length = 0;
  }

  /** Requests that may be taken now. */
  #available(): number {
    if (this.failure || this.#held > 0 || this.#barrier) return 0;
    try {
      return this.#ring.available();
    } catch (error) {
      this.failure = error as Error;
      return 0;
    }
  }

  #start(request: BlkifRequest): void {
    let status = request.parse(this.#slot, this.#abi, this.#limits, this.grants);
    if (status === BLKIF_RSP.OKAY) status = this.#map(request);
    this.inFlight++;
    if (status !== BLKIF_RSP.OKAY) {
      request.begun = -1;
      this.#finish(request, status);
    } else if (request.operation !== BLKIF_OP.WRITE_BARRIER) this.#run(request);
    else {
      this.#barrier = request;
      if (this.inFlight === 1) this.#run(request);
    }
  }

  #map(request: BlkifRequest): number {
    const status = this.grants.map(request);
    if (status === GNTST.no_space) this.statistics.oo_req++;
    return status === GNTST.okay ? BLKIF_RSP.OKAY : BLKIF_RSP.ERROR;
  }

  #run(request: BlkifRequest): void {
    this.#execute(request).then(
      () => this.#finish(request, BLKIF_RSP.OKAY),
      (error: Error) => {
        this.statistics.lastError = error.message;
        this.#finish(request, BLKIF_RSP.ERROR);
      },
    );
  }

  #execute(request: BlkifRequest): Promise<unknown> {
    const { statistics } = this;
    switch (request.operation) {
      case BLKIF_OP.READ:
        statistics.rd_req++;
        statistics.rd_sect += request.length / 512;
        return this.#transfer(request);
      case BLKIF_OP.WRITE:
        statistics.wr_req++;
        statistics.wr_sect += request.length / 512;
        return this.#transfer(request);
      case BLKIF_OP.DISCARD:
        statistics.ds_req++;
        return this.#device.discard(request.offset, request.length);
      default:
        statistics.f_req++;
        statistics.wr_sect += request.length / 512;
        return this.#flushThenWrite(request);
    }
  }

  /** FLUSH_DISKCACHE and WRITE_BARRIER: what was written before is durable before their own data is written (blkif.h). */
  async #flushThenWrite(request: BlkifRequest): Promise<void> {
    await this.#device.flush();
    if (request.segments === 0) return;
    await this.#transfer(request);
    // A frontend that knows only barriers takes its data for durable too (Linux: REQ_FUA).
    if (request.operation === BLKIF_OP.WRITE_BARRIER) await this.#device.flush();
  }

  /** Moves the data between the device and the mapped pages. Pages that lie side by side in memory are one transfer. */
  #transfer(request: BlkifRequest): Promise<unknown> {
    const { grants, start, bytes, segments } = request;
    const parts: Promise<void>[] = [];
    let { offset } = request;
    for (let i = 0; i < segments; ) {
      const { page } = grants[i]!;
      const from = page.byteOffset + start[i]!;
      let end = from + bytes[i]!;
      for (i++; i < segments; i++) {
        const next = grants[i]!.page;
        if (next.buffer !== page.buffer || next.byteOffset + start[i]! !== end) break;
        end += bytes[i]!;
      }
      const run = new Uint8Array(page.buffer, from, end - from);
      parts.push(request.isWrite ? this.#write(offset, run) : this.#device.read(offset, run));
      offset += run.length;
    }
    return parts.length === 1 ? parts[0]! : allEnded(parts);
  }

  /**
   * blkif has no request for zeros: a guest that clears a range sends them as data. Where the disk may be discarded they
   * become a hole again, so that an image stays sparse through a device (QEMU: detect-zeroes=unmap).
   */
  #write(offset: number, run: Uint8Array): Promise<void> {
    const hole = this.#limits.canDiscard && offset % HOLE_UNIT === 0 && run.length % HOLE_UNIT === 0 && isZero(run);
    return hole ? this.#device.zero(offset, run.length) : this.#device.write(offset, run);
  }

  #finish(request: BlkifRequest, status: number): void {
    this.grants.unmap(request);
    if (status !== BLKIF_RSP.OKAY) this.statistics.errors++;
    // operation, a zero byte of padding, status: blkif_response from byte 8 on
    this.#ring.respond(request.idLow, request.idHigh, request.operation | ((status & 0xffff) << 16), request.entry);
    this.#ended.push(request);
    this.inFlight--;
    if (this.#barrier === request) this.#barrier = undefined;
    else if (this.#barrier && this.inFlight === 1) this.#run(this.#barrier);
    if (this.inFlight === 0 && this.#onDrained) this.#drained();
    this.#onWake();
  }

  #drained(): void {
    const tell = this.#onDrained;
    this.#onDrained = undefined;
    tell?.();
  }

  #notify(): void {
    this.#notified++;
    try {
      this.#platform.events.notify(this.#port);
    } catch {
      // The frontend's domain died between two batches; xenbus will tell.
    }
  }
}

/** Waits for all, also after one failed: their pages are unmapped when this rejects. */
async function allEnded(parts: readonly Promise<void>[]): Promise<void> {
  for (const part of await Promise.allSettled(parts)) if (part.status === "rejected") throw part.reason;
}

function journalOf({ journal, ringRefs, abi }: RingAddress): RingJournal | undefined {
  return journal && new RingJournal(journal, ringSize(ringRefs.length * PAGE_SIZE, abi.stride), abi.stride);
}

function mapRing(platform: XenPlatform, { frontendDomid, ringRefs }: RingAddress): MappedRing {
  const mapping = platform.foreign.mapRing(frontendDomid, ringRefs);
  if (typeof mapping !== "number") return mapping;
  throw new RingError(
    `mapping ring-ref ${ringRefs.join(" ")} of domain ${frontendDomid} failed with grant status ${mapping}`,
  );
}

/** Told to the frontend through xenstore as the reason for closing. */
export class RingError extends Error {
  override readonly name = "RingError";
}
