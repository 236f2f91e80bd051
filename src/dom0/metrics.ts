/** The counters of all devices in Prometheus' text format, version 0.0.4 (prometheus.io, "Exposition formats"). Units are seconds and bytes. */
import { LATENCY_KINDS } from "../xen/blkback-statistics.js";
import { countBelow } from "../xen/latency-histogram.js";
import type { DeviceIo, IoSample } from "./api-types.js";
import type { BackendStatistics } from "./backend-thread.js";

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Bounds of the duration histogram in microseconds, 8 us to 4.2 s; each is a bound of the measured one. */
const BOUNDS_US = Array.from({ length: 20 }, (_, i) => 2 ** (i + 3));

type Labels = Readonly<Record<string, string | number>>;

interface Metric {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  /** Undefined: the device has no such value now. */
  readonly value: (device: DeviceIo) => number | undefined;
}

const counter = (name: string, help: string, value: (io: BackendStatistics) => number): Metric => ({
  name: `xvd_vbd_${name}_total`,
  type: "counter",
  help,
  value: ({ statistics }) => (statistics ? value(statistics) : undefined),
});

const gauge = (name: string, help: string, value: Metric["value"]): Metric => ({
  name: `xvd_vbd_${name}`,
  type: "gauge",
  help,
  value,
});

const ofRings = (io: BackendStatistics, value: (ring: BackendStatistics["rings"][number]) => number) =>
  io.rings.reduce((sum, ring) => sum + value(ring), 0);

/** Counters begin anew when the rings of a device are connected anew. */
const METRICS: readonly Metric[] = [
  counter("reads", "Read requests.", ({ rd_req }) => rd_req),
  counter("writes", "Write requests.", ({ wr_req }) => wr_req),
  counter("flushes", "Flush and barrier requests.", ({ f_req }) => f_req),
  counter("discards", "Discard requests.", ({ ds_req }) => ds_req),
  counter("read_bytes", "Bytes read.", ({ rd_sect }) => rd_sect * 512),
  counter("written_bytes", "Bytes written.", ({ wr_sect }) => wr_sect * 512),
  counter("errors", "Requests answered with an error.", ({ errors }) => errors),
  counter("out_of_pages", "Requests refused for want of pages to map grants at (oo_req).", ({ oo_req }) => oo_req),
  counter("notifications_sent", "Batches of answers of which the frontend was told.", (io) =>
    ofRings(io, ({ notified }) => notified),
  ),
  counter("notifications_suppressed", "Batches of answers of which the frontend had not asked to be told.", (io) =>
    ofRings(io, ({ suppressed }) => suppressed),
  ),
  gauge("in_flight", "Requests taken off the rings and not answered yet.", ({ statistics }) =>
    statistics ? ofRings(statistics, ({ in_flight }) => in_flight) : undefined,
  ),
  gauge("mapped_grants", "Granted pages that are mapped, beside those of the rings.", ({ statistics }) =>
    statistics ? ofRings(statistics, ({ mapped_grants }) => mapped_grants) : undefined,
  ),
  gauge("ring_stopped", "1 when a ring was stopped for good because of what the guest did.", ({ statistics }) =>
    statistics ? Number(statistics.failure !== null) : undefined,
  ),
  gauge("connected", "1 when both ends are Connected.", ({ connected }) => Number(connected)),
  gauge("size_bytes", "Size of the disk.", ({ size }) => size),
];

const DURATION = "xvd_vbd_request_duration_seconds";

export function metricsText({ domains, devices }: IoSample): string {
  const lines = [
    ...head("xvd_domains", "gauge", "Domains by their state."),
    ...[...domainStates(domains)].map(([state, count]) => sample("xvd_domains", { state }, count)),
    ...head("xvd_vbd_info", "gauge", "The disk behind a device."),
    ...devices.map((device) => sample("xvd_vbd_info", { ...labelsOf(device), disk: device.disk }, 1)),
  ];
  for (const { name, type, help, value } of METRICS) {
    lines.push(...head(name, type, help));
    for (const device of devices) {
      const now = value(device);
      if (now !== undefined) lines.push(sample(name, labelsOf(device), now));
    }
  }
  lines.push(
    ...head(DURATION, "histogram", "From when a request was taken off the ring until its answer was published."),
  );
  for (const device of devices) lines.push(...durations(device));
  return `${lines.join("\n")}\n`;
}

function durations(device: DeviceIo): string[] {
  const { latency } = device;
  if (!latency) return [];
  return LATENCY_KINDS.flatMap((operation) => {
    const counts = latency[operation];
    const labels = { ...labelsOf(device), operation };
    return [
      ...BOUNDS_US.map((us) => sample(`${DURATION}_bucket`, { ...labels, le: us / 1e6 }, countBelow(counts, us))),
      sample(`${DURATION}_bucket`, { ...labels, le: "+Inf" }, counts.count),
      sample(`${DURATION}_sum`, labels, counts.sum / 1e6),
      sample(`${DURATION}_count`, labels, counts.count),
    ];
  });
}

function domainStates(domains: IoSample["domains"]): Map<string, number> {
  const states = new Map<string, number>();
  for (const { state } of domains) states.set(state, (states.get(state) ?? 0) + 1);
  return states;
}

function labelsOf({ domain, domid, vdev }: DeviceIo): Labels {
  return { domain, domid, vdev };
}

function head(name: string, type: string, help: string): string[] {
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
}

function sample(name: string, labels: Labels, value: number): string {
  const written = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(String(text))}"`);
  return `${name}{${written.join(",")}} ${value}`;
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
