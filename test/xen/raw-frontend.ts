/** A frontend that writes whatever it is told into its ring, whose pages are no neighbours in memory. */
import { expect } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { BlkbackQueue } from "#src/xen/blkback-queue.js";
import { ABIS, type BlkifAbi } from "#src/xen/blkif/layout.js";
import type { ForeignPages, OwnPages } from "#src/xen/platform/platform.js";
import { ringSize } from "#src/xen/ring.js";
import { limitsOf, twoDomains } from "./ring-pair.js";

export const SIZE = 1 << 20;
export const OKAY = 0;
export const ERROR = -1;
export const EOPNOTSUPP = -2;

export interface Segment {
  gref: number;
  first: number;
  last: number;
}

export interface RawRequest {
  op: number;
  segments?: Segment[];
  nrSegments?: number;
  sector?: bigint;
  nrSectors?: bigint;
  /** Byte 1 of a discard. */
  flag?: number;
  id?: bigint;
  /** Of op 6: the operation inside, and the grant of the page of segments when it is not the frontend's own. */
  inner?: number;
  indirectRef?: number;
}

export interface RawOptions {
  writable?: boolean;
  abi?: BlkifAbi;
  sectorSize?: number;
  /** Where all indices start. */
  start?: number;
  pages?: number;
  persistent?: boolean;
  /** Default 256; 0: not offered. */
  maxIndirectSegments?: number;
  device?: BlockDevice;
  /** The backend's grant operations, when something is to happen in them. */
  foreign?: (real: ForeignPages) => Partial<ForeignPages>;
  /** The backend's clock, in milliseconds. */
  now?: () => number;
}

/** Bytes spread over pages, as one range. */
class PagedBytes {
  readonly #pages: readonly OwnPages[];

  constructor(pages: readonly OwnPages[]) {
    this.#pages = pages;
  }

  getUint8(at: number): number {
    return this.#pages[at >> 12]!.bytes[at & 4095]!;
  }

  setUint8(at: number, value: number): void {
    this.#pages[at >> 12]!.bytes[at & 4095] = value;
  }

  /** In one read, where others may write meanwhile. `at` is even. */
  getInt16(at: number): number {
    const { bytes } = this.#pages[at >> 12]!;
    return new Int16Array(bytes.buffer, bytes.byteOffset + (at & 4095), 1)[0]!;
  }

  /** Where in the guest's memory a byte lies. */
  placeOf(at: number): number {
    return this.#pages[at >> 12]!.bytes.byteOffset + (at & 4095);
  }

  get(at: number, bytes: number): bigint {
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.getUint8(at + i));
    return value;
  }

  set(at: number, bytes: number, value: bigint | number): void {
    for (let i = 0; i < bytes; i++) this.setUint8(at + i, Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
  }
}

export function rawFrontend(options: RawOptions = {}) {
  const { abi = ABIS["x86_64-abi"]!, start = 0, pages = 1, persistent = false, maxIndirectSegments = 256 } = options;
  const domains = twoDomains();
  const { dom0, guest } = domains;
  const memory = memoryDevice(SIZE, { writable: options.writable ?? true });
  const device = options.device ?? memory;
  // Every other page, from the last to the first: no two of the ring's are neighbours.
  const ringPages = Array.from({ length: pages * 2 }, () => guest.grants.allocatePages(1))
    .filter((_, i) => i % 2 === 0)
    .reverse();
  const ring = new PagedBytes(ringPages);
  const size = ringSize(pages * 4096, abi.stride);
  const slotAt = (index: number) => 64 + (index & (size - 1)) * abi.stride;
  for (const word of [0, 8]) ring.set(word, 4, start);
  for (const word of [4, 12]) ring.set(word, 4, (start + 1) >>> 0);
  const ringRefs = ringPages.map(({ firstFrame }) => guest.grants.grantAccess(0, firstFrame, false));
  const eventChannel = guest.events.allocUnbound(0);
  const data = guest.grants.allocatePages(257);
  const dataRefs: (number | undefined)[] = [];
  const indirect = guest.grants.allocatePages(1);
  const indirectRef = guest.grants.grantAccess(0, indirect.firstFrame, false);
  const address = { frontendDomid: 1, ringRefs, eventChannel, abi, persistent, maxIndirectSegments };
  let produced = start;
  const platform = { ...dom0, foreign: withChanges(dom0.foreign, options.foreign?.(dom0.foreign) ?? {}) };

  const putSegments = (bytes: { set: PagedBytes["set"] }, at: number, segments: readonly Segment[]) => {
    for (const [i, segment] of segments.entries()) {
      bytes.set(at + i * 8, 4, segment.gref);
      bytes.set(at + i * 8 + 4, 1, segment.first);
      bytes.set(at + i * 8 + 5, 1, segment.last);
    }
  };
  const put = (request: RawRequest) => {
    const { op, segments = [], nrSegments = segments.length, sector = 0n, nrSectors, id = 7n } = request;
    const at = slotAt(produced);
    for (let i = 0; i < abi.stride; i++) ring.setUint8(at + i, 0xee); // what an earlier request left
    ring.setUint8(at, op);
    if (op === 6) {
      ring.setUint8(at + 1, request.inner ?? 0);
      ring.set(at + 2, 2, nrSegments);
      ring.set(at + abi.indirectGrefsWord * 4, 4, request.indirectRef ?? indirectRef);
      putSegments(new PagedBytes([indirect]), 0, segments);
    } else {
      ring.setUint8(at + 1, request.flag ?? nrSegments);
      if (nrSectors === undefined) putSegments(ring, at + abi.segmentWord * 4, segments);
      else ring.set(at + abi.nrSectorsWord * 4, 8, nrSectors);
    }
    ring.set(at + abi.idWord * 4, 8, id);
    ring.set(at + abi.sectorWord * 4, 8, sector);
    produced = (produced + 1) >>> 0;
    ring.set(0, 4, produced);
  };
  return {
    ...domains,
    memory,
    ring,
    ringRefs,
    size,
    slotAt,
    data,
    indirect,
    indirectRef,
    put,
    /** A grant of data page `i`, always the same for one page. */
    granted: (i = 0) => (dataRefs[i] ??= guest.grants.grantAccess(0, data.firstFrame + i, false)),
    readable: (i = 0) => guest.grants.grantAccess(0, data.firstFrame + i, true),
    connect: (onWake = () => {}) =>
      new BlkbackQueue(platform, device, limitsOf(device, options.sectorSize), address, onWake, options.now),
    rspProd: () => Number(ring.get(8, 4)),
    setReqProd: (value: number) => ring.set(0, 4, value),
    response: (index: number) => {
      const at = slotAt(index);
      const status = ring.getInt16(at + 10);
      return { id: ring.get(at, 8), op: ring.getUint8(at + 8), pad: ring.getUint8(at + 9), status };
    },
  };
}

function withChanges(real: ForeignPages, changes: Partial<ForeignPages>): ForeignPages {
  return {
    map: (domid, ref, writable) => real.map(domid, ref, writable),
    copy: (copies) => real.copy(copies),
    mapRing: (domid, refs) => real.mapRing(domid, refs),
    page: (handle) => real.page(handle),
    unmap: (handle) => real.unmap(handle),
    get mapped() {
      return real.mapped;
    },
    ...changes,
  };
}

export type RawFrontend = ReturnType<typeof rawFrontend>;

/** `count` whole pages, each of its own grant. */
export function wholePages(front: RawFrontend, count: number): Segment[] {
  return Array.from({ length: count }, (_, i) => ({ gref: front.granted(i), first: 0, last: 7 }));
}

/** Takes what is on the ring and answers it. */
export async function settle(queue: BlkbackQueue): Promise<void> {
  let taken: number;
  do {
    taken = queue.take();
    for (let i = 0; i < 200 && queue.inFlight > 0; i++) await new Promise((resolve) => setImmediate(resolve));
    queue.publish();
  } while (taken > 0);
}

/** The status of one request, which left nothing mapped but the ring and what is kept. */
export async function verdict(front: RawFrontend, back: BlkbackQueue, request: RawRequest): Promise<number> {
  const index = front.rspProd();
  const ringPages = front.dom0.foreign.mapped - back.grants.kept;
  front.put(request);
  await settle(back);
  expect(front.rspProd()).toBe((index + 1) >>> 0);
  expect(back.failure).toBeUndefined();
  expect(front.dom0.foreign.mapped).toBe(ringPages + back.grants.kept);
  return front.response(index).status;
}

export async function isUntouched(device: BlockDevice): Promise<boolean> {
  const bytes = Buffer.alloc(device.size);
  await device.read(0, bytes);
  return bytes.equals(Buffer.alloc(device.size));
}
