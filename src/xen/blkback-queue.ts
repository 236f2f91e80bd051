/**
 * The data plane of one connected vbd: ring, grants and the device behind them (Linux blkback.c in behaviour).
 * A request's life: take (private copy) -> parse -> map its grants -> read or write straight from the pages -> unmap -> respond.
 * Pages are unmapped before the response: the frontend takes its grant back as soon as it sees it.
 * What a guest sends is answered, never thrown; an impossible ring index stops this ring for good.
 */
import type { BlockDevice } from "../block/device.js";
import { BLKIF_OP, BLKIF_RSP, type BlkifAbi } from "./blkif/layout.js";
import { BlkifRequest, type VbdLimits } from "./blkif/request.js";
import type { XenPlatform } from "./platform/platform.js";
import { BackRing } from "./ring.js";
import type { VcpuWork } from "./vcpu-loop.js";

/** A pass takes requests up to this much data, then answers: the frontend works on the first answers while we go on. */
const BATCH_BYTES = 64 << 10;

export interface RingAddress {
  readonly frontendDomid: number;
  readonly ringRef: number;
  readonly eventChannel: number;
  readonly abi: BlkifAbi;
}

/** Counters as blkback keeps them in sysfs `statistics`; sectors are 512 bytes. */
export interface VbdStatistics {
  rd_req: number;
  wr_req: number;
  f_req: number;
  ds_req: number;
  rd_sect: number;
  wr_sect: number;
  /** Requests answered with an error. */
  errors: number;
  /** What the disk said of the last one that it failed. */
  lastError: string | null;
}

export class BlkbackQueue implements VcpuWork {
  readonly statistics: VbdStatistics = {
    rd_req: 0,
    wr_req: 0,
    f_req: 0,
    ds_req: 0,
    rd_sect: 0,
    wr_sect: 0,
    errors: 0,
    lastError: null,
  };
  readonly #platform: XenPlatform;
  readonly #device: BlockDevice;
  readonly #limits: VbdLimits;
  readonly #address: RingAddress;
  readonly #onWake: () => void;
  readonly #ringHandle: number;
  readonly #port: number;
  readonly #ring: BackRing;
  readonly #slot: Int32Array;
  readonly #idleRequests: BlkifRequest[] = [];
  #responses = 0;
  #closing: (() => void) | undefined;
  /** Why the ring was stopped for good. */
  failure: Error | undefined;
  inFlight = 0;

  /** Maps the ring and binds the event channel. Throws `PROTOCOL` and leaves nothing behind when the frontend's keys are bad. */
  constructor(platform: XenPlatform, device: BlockDevice, limits: VbdLimits, address: RingAddress, onWake: () => void) {
    this.#platform = platform;
    this.#device = device;
    this.#limits = limits;
    this.#address = address;
    this.#onWake = onWake;
    this.#ringHandle = mapRing(platform, address);
    try {
      this.#ring = new BackRing(platform.foreign.page(this.#ringHandle), address.abi.stride);
      this.#port = platform.events.bindInterdomain(address.frontendDomid, address.eventChannel);
    } catch (error) {
      platform.foreign.unmap(this.#ringHandle);
      throw error;
    }
    this.#slot = this.#ring.newSlot();
    platform.events.listen(this.#port, () => {});
  }

  take(): number {
    if (this.failure || this.#closing) return 0;
    let count: number;
    try {
      count = this.#ring.available();
    } catch (error) {
      this.failure = error as Error;
      return 0;
    }
    let taken = 0;
    for (let bytes = 0; taken < count && bytes < BATCH_BYTES; taken++) {
      this.#ring.take(this.#slot);
      const request = this.#idleRequests.pop() ?? new BlkifRequest();
      this.#start(request);
      bytes += request.length;
    }
    return taken;
  }

  publish(): void {
    if (this.#responses === 0) return;
    this.#responses = 0;
    if (this.#ring.push()) this.#notify();
  }

  finalCheck(): boolean {
    if (this.failure || this.#closing) return false;
    try {
      return this.#ring.finalCheckForRequests();
    } catch (error) {
      this.failure = error as Error;
      return false;
    }
  }

  /** Waits for what is in flight, answers it, and lets ring and event channel go. The device stays open. */
  async close(): Promise<void> {
    if (this.inFlight > 0)
      await new Promise<void>((resolve) => {
        this.#closing = resolve;
      });
    this.#closing ??= () => {};
    this.publish();
    this.#platform.events.close(this.#port);
    this.#platform.foreign.unmap(this.#ringHandle);
  }

  #start(request: BlkifRequest): void {
    let status = request.parse(this.#slot, this.#address.abi, this.#limits);
    if (status === BLKIF_RSP.OKAY && request.segments > 0) status = this.#mapSegments(request);
    this.inFlight++;
    if (status !== BLKIF_RSP.OKAY) this.#finish(request, status);
    else
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
        // A flush may carry data: flush first, then write it (blkif.h).
        return request.segments === 0 ? this.#device.flush() : this.#device.flush().then(() => this.#transfer(request));
    }
  }

  /** Moves the data between the device and the mapped pages. Pages that lie side by side in memory are one transfer. */
  #transfer(request: BlkifRequest): Promise<unknown> {
    const { foreign } = this.#platform;
    const parts: Promise<void>[] = [];
    let { offset } = request;
    for (let i = 0; i < request.segments; ) {
      const page = foreign.page(request.handles[i]!);
      const from = page.byteOffset + request.start[i]!;
      let end = from + request.bytes[i]!;
      for (i++; i < request.segments; i++) {
        const next = foreign.page(request.handles[i]!);
        if (next.buffer !== page.buffer || next.byteOffset + request.start[i]! !== end) break;
        end += request.bytes[i]!;
      }
      const run = new Uint8Array(page.buffer, from, end - from);
      parts.push(request.isWrite ? this.#device.write(offset, run) : this.#device.read(offset, run));
      offset += run.length;
    }
    return parts.length === 1 ? parts[0]! : Promise.all(parts);
  }

  /** Data pages of a WRITE are mapped read-only, those of a READ writable. All or nothing. */
  #mapSegments(request: BlkifRequest): number {
    const { foreign } = this.#platform;
    for (let i = 0; i < request.segments; i++) {
      const handle = foreign.map(this.#address.frontendDomid, request.gref[i]!, !request.isWrite);
      if (handle < 0) {
        this.#unmapSegments(request);
        return BLKIF_RSP.ERROR;
      }
      request.handles[i] = handle;
      request.mapped = i + 1;
    }
    return BLKIF_RSP.OKAY;
  }

  #unmapSegments(request: BlkifRequest): void {
    for (let i = 0; i < request.mapped; i++) this.#platform.foreign.unmap(request.handles[i]!);
    request.mapped = 0;
  }

  #finish(request: BlkifRequest, status: number): void {
    this.#unmapSegments(request);
    if (status !== BLKIF_RSP.OKAY) this.statistics.errors++;
    // operation, a zero byte of padding, status: blkif_response from byte 8 on
    this.#ring.respond(request.idLow, request.idHigh, request.operation | ((status & 0xffff) << 16));
    this.#responses++;
    this.#idleRequests.push(request);
    if (--this.inFlight === 0) this.#closing?.();
    this.#onWake();
  }

  #notify(): void {
    try {
      this.#platform.events.notify(this.#port);
    } catch {
      // The frontend's domain died between two batches; xenbus will tell.
    }
  }
}

function mapRing(platform: XenPlatform, address: RingAddress): number {
  const handle = platform.foreign.map(address.frontendDomid, address.ringRef, true);
  if (handle >= 0) return handle;
  throw new RingError(
    `mapping ring-ref ${address.ringRef} of domain ${address.frontendDomid} failed with grant status ${handle}`,
  );
}

/** Told to the frontend through xenstore as the reason for closing. */
export class RingError extends Error {
  override readonly name = "RingError";
}
