/** What a backend counts, in the names of blkback and ring.h, and how long its requests took. */
import { BLKIF_OP } from "./blkif/layout.js";
import { type LatencyCounts, LatencyHistogram, mergeLatency } from "./latency-histogram.js";
import type { BackRingIndices } from "./ring.js";

/** Counters as blkback keeps them in sysfs `statistics`; sectors are 512 bytes. */
export interface VbdStatistics {
  rd_req: number;
  wr_req: number;
  f_req: number;
  ds_req: number;
  /** Requests refused because there were no more pages to map grants at. */
  oo_req: number;
  rd_sect: number;
  wr_sect: number;
  /** Requests answered with an error. */
  errors: number;
  /** What the disk said of the last one that it failed. */
  lastError: string | null;
}

/** One ring as its backend sees it. */
export interface BackRingState extends BackRingIndices {
  readonly in_flight: number;
  /** Batches of answers of which the frontend was told, and those of which it had not asked to be told. */
  readonly notified: number;
  readonly suppressed: number;
  /** Dom0's end of the event channel. */
  readonly port: number;
  /** Grants that are mapped now, beside those of the ring itself. */
  readonly mapped_grants: number;
  /** Those of them that stay mapped. */
  readonly persistent_grants: number;
}

export function newStatistics(): VbdStatistics {
  return { rd_req: 0, wr_req: 0, f_req: 0, ds_req: 0, oo_req: 0, rd_sect: 0, wr_sect: 0, errors: 0, lastError: null };
}

/** Of all rings of a vbd. */
export function totalStatistics(queues: readonly { readonly statistics: VbdStatistics }[]): VbdStatistics {
  const total = newStatistics();
  for (const { statistics } of queues) for (const counter of COUNTERS) total[counter] += statistics[counter];
  total.lastError = queues.findLast(({ statistics }) => statistics.lastError)?.statistics.lastError ?? null;
  return total;
}

const COUNTERS = ["rd_req", "wr_req", "f_req", "ds_req", "oo_req", "rd_sect", "wr_sect", "errors"] as const;

export const LATENCY_KINDS = ["read", "write", "flush", "discard"] as const;
export type LatencyKind = (typeof LATENCY_KINDS)[number];

/** For each kind of request, from when it was taken off the ring until its answer was published. */
export type VbdLatency = Readonly<Record<LatencyKind, LatencyCounts>>;

const KIND_OF: Readonly<Record<number, LatencyKind>> = {
  [BLKIF_OP.READ]: "read",
  [BLKIF_OP.WRITE]: "write",
  [BLKIF_OP.WRITE_BARRIER]: "flush",
  [BLKIF_OP.FLUSH_DISKCACHE]: "flush",
  [BLKIF_OP.DISCARD]: "discard",
};

/** Of one ring. A histogram is made when its first request has ended. */
export class RequestLatency {
  readonly #byOperation: (LatencyHistogram | undefined)[] = [];

  /** `operation` is one that a request can have; `us` are microseconds. */
  record(operation: number, us: number): void {
    let histogram = this.#byOperation[operation];
    if (!histogram) this.#byOperation[operation] = histogram = new LatencyHistogram();
    histogram.record(us);
  }

  /** Of this operation's kind. */
  counts(kind: LatencyKind): LatencyCounts[] {
    return this.#byOperation.flatMap((histogram, operation) =>
      histogram && KIND_OF[operation] === kind ? [histogram.counts] : [],
    );
  }
}

/** Of all rings of a vbd. */
export function totalLatency(queues: readonly { readonly latency: RequestLatency }[]): VbdLatency {
  const total = (kind: LatencyKind) => mergeLatency(queues.flatMap(({ latency }) => latency.counts(kind)));
  return { read: total("read"), write: total("write"), flush: total("flush"), discard: total("discard") };
}
