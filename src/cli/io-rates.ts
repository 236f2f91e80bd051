/** What two samples of the counters say of the time between them; the JSON of `xvd top`. */
import type { DeviceIo, IoSample } from "../dom0/api-types.js";
import { LATENCY_KINDS, type LatencyKind } from "../xen/blkback-statistics.js";
import { type LatencyCounts, latencySince, mergeLatency, NO_LATENCY, percentile } from "../xen/latency-histogram.js";

export interface IoRates {
  /** Length of the interval. */
  readonly seconds: number;
  readonly devices: readonly DeviceRates[];
}

export interface DeviceRates {
  readonly domain: string;
  readonly domid: number;
  readonly vdev: string;
  readonly disk: string;
  readonly connected: boolean;
  readonly read: TransferRates;
  readonly write: TransferRates;
  readonly flush: RequestRates;
  readonly discard: RequestRates;
  /** Of all requests. */
  readonly latency: LatencySummary | null;
  /** Requests in flight, on average over the interval, and now. */
  readonly "queue-depth": number;
  readonly "in-flight": number;
  /** Requests answered with an error: within the interval, and since the device was connected. */
  readonly errors: number;
  readonly "total-errors": number;
  readonly "last-error": string | null;
}

interface RequestRates {
  readonly iops: number;
  readonly latency: LatencySummary | null;
}

interface TransferRates extends RequestRates {
  readonly "bytes-per-second": number;
}

/** Microseconds, from when the backend took a request until it published the answer. */
export interface LatencySummary {
  readonly mean: number;
  readonly p50: number;
  readonly p99: number;
}

type Counter = "rd_req" | "wr_req" | "f_req" | "ds_req" | "rd_sect" | "wr_sect" | "errors";

/** Devices of `now`. One that was attached, or whose rings were connected anew, since `before` is counted from its beginning. */
export function ioRates(before: IoSample, now: IoSample, domain?: string): IoRates {
  const seconds = Math.max((now.time - before.time) / 1000, 0.001);
  const wanted = now.devices.filter(
    (device) => domain === undefined || device.domain === domain || String(device.domid) === domain,
  );
  const devices = wanted.map((device) => {
    const past = before.devices.find(({ domid, number }) => domid === device.domid && number === device.number);
    return deviceRates(device, continues(past, device) ? past : undefined, seconds);
  });
  return { seconds, devices };
}

function continues(past: DeviceIo | undefined, device: DeviceIo): past is DeviceIo {
  const [a, b] = [past?.statistics, device.statistics];
  return !a || !b || (["rd_req", "wr_req", "f_req", "ds_req", "errors"] as const).every((name) => a[name] <= b[name]);
}

function deviceRates(device: DeviceIo, past: DeviceIo | undefined, seconds: number): DeviceRates {
  const io = device.statistics;
  const counted = (name: Counter) => (io?.[name] ?? 0) - (io ? (past?.statistics?.[name] ?? 0) : 0);
  const latencies = Object.fromEntries(
    LATENCY_KINDS.map((kind) => [
      kind,
      latencySince(device.latency?.[kind] ?? NO_LATENCY, past?.latency?.[kind] ?? NO_LATENCY),
    ]),
  ) as Record<LatencyKind, LatencyCounts>;
  const requests = (kind: LatencyKind, name: Counter) => ({
    iops: counted(name) / seconds,
    latency: summary(latencies[kind]),
  });
  const all = mergeLatency(Object.values(latencies));
  return {
    domain: device.domain,
    domid: device.domid,
    vdev: device.vdev,
    disk: device.disk,
    connected: device.connected,
    read: { ...requests("read", "rd_req"), "bytes-per-second": (counted("rd_sect") * 512) / seconds },
    write: { ...requests("write", "wr_req"), "bytes-per-second": (counted("wr_sect") * 512) / seconds },
    flush: requests("flush", "f_req"),
    discard: requests("discard", "ds_req"),
    latency: summary(all),
    "queue-depth": all.sum / 1e6 / seconds, // Little's law
    "in-flight": io?.rings.reduce((sum, { in_flight }) => sum + in_flight, 0) ?? 0,
    errors: counted("errors"),
    "total-errors": io?.errors ?? 0,
    "last-error": io?.lastError ?? null,
  };
}

function summary(counts: LatencyCounts): LatencySummary | null {
  const [p50, p99] = [percentile(counts, 0.5), percentile(counts, 0.99)];
  return p50 === null || p99 === null ? null : { mean: counts.sum / counts.count, p50, p99 };
}
