/** What a backend counts, in the names of blkback and ring.h. */
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
  /** Grants that stay mapped. */
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
