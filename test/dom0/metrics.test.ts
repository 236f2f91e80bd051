/** /metrics as a scraper reads it. */
import { describe, expect, test } from "vitest";
import type { DeviceIo, IoSample } from "#src/dom0/api-types.js";
import { metricsText } from "#src/dom0/metrics.js";
import { LatencyHistogram } from "#src/xen/latency-histogram.js";
import { parseMetrics } from "./prometheus.js";

const NOTHING = { count: 0, sum: 0, buckets: [] };

function latencyOf(values: readonly number[]) {
  const histogram = new LatencyHistogram();
  for (const value of values) histogram.record(value);
  return histogram.counts;
}

const RING = {
  size: 32,
  req_prod: 9,
  req_cons: 9,
  req_event: 10,
  rsp_prod: 7,
  rsp_event: 8,
  in_flight: 2,
  notified: 5,
  suppressed: 3,
  port: 4,
  mapped_grants: 6,
  persistent_grants: 1,
};

function device(changes: Partial<DeviceIo> = {}): DeviceIo {
  return {
    domain: "web1",
    domid: 3,
    vdev: "xvda",
    number: 51712,
    disk: "/srv/a.dsk",
    size: 1 << 30,
    connected: true,
    statistics: {
      rd_req: 4,
      wr_req: 2,
      f_req: 1,
      ds_req: 0,
      oo_req: 0,
      rd_sect: 32,
      wr_sect: 8,
      errors: 1,
      lastError: null,
      failure: null,
      rings: [RING, RING],
    },
    latency: {
      read: latencyOf([4, 10, 100, 9e6]),
      write: latencyOf([20, 20]),
      flush: latencyOf([3]),
      discard: NOTHING,
    },
    ...changes,
  };
}

const sampleOf = (...devices: DeviceIo[]): IoSample => ({
  time: 0,
  domains: [
    { domid: 0, name: "Domain-0", state: "running" },
    { domid: 3, name: "web1", state: "running" },
    { domid: 4, name: "web2", state: "dying" },
  ],
  devices,
});

const LABELS = { domain: "web1", domid: "3", vdev: "xvda" };

test("counters and gauges of each device, in bytes, over all its rings", () => {
  const families = parseMetrics(metricsText(sampleOf(device())));
  const values = Object.fromEntries(
    [...families.values()]
      .filter(({ type, name }) => type !== "histogram" && name.startsWith("xvd_vbd_") && name !== "xvd_vbd_info")
      .map(({ name, samples }) => {
        expect(samples.map(({ labels }) => labels)).toEqual([LABELS]);
        return [name, samples[0]!.value];
      }),
  );
  expect(values).toEqual({
    xvd_vbd_reads_total: 4,
    xvd_vbd_writes_total: 2,
    xvd_vbd_flushes_total: 1,
    xvd_vbd_discards_total: 0,
    xvd_vbd_read_bytes_total: 32 * 512,
    xvd_vbd_written_bytes_total: 8 * 512,
    xvd_vbd_errors_total: 1,
    xvd_vbd_out_of_pages_total: 0,
    xvd_vbd_notifications_sent_total: 10,
    xvd_vbd_notifications_suppressed_total: 6,
    xvd_vbd_in_flight: 4,
    xvd_vbd_mapped_grants: 12,
    xvd_vbd_ring_stopped: 0,
    xvd_vbd_connected: 1,
    xvd_vbd_size_bytes: 1 << 30,
  });
});

test("durations: cumulative buckets in seconds for each kind of request", () => {
  const { samples } = parseMetrics(metricsText(sampleOf(device()))).get("xvd_vbd_request_duration_seconds")!;
  const reads = samples.filter(({ labels }) => labels.operation === "read");
  const upTo = (le: string) => reads.find(({ labels }) => labels.le === le)?.value;
  expect([upTo("0.000008"), upTo("0.000016"), upTo("0.000128"), upTo("4.194304"), upTo("+Inf")]).toEqual([
    1, 2, 3, 3, 4,
  ]);
  expect(reads.find(({ name }) => name.endsWith("_sum"))!.value).toBeCloseTo(9.000114, 9);
  const counts = samples.filter(({ name }) => name.endsWith("_count"));
  expect(counts.map(({ labels, value }) => [labels.operation, value])).toEqual([
    ["read", 4],
    ["write", 2],
    ["flush", 1],
    ["discard", 0],
  ]);
});

test("domains by state", () => {
  const { samples } = parseMetrics(metricsText(sampleOf())).get("xvd_domains")!;
  expect(samples.map(({ labels, value }) => [labels.state, value])).toEqual([
    ["running", 2],
    ["dying", 1],
  ]);
});

test("a device without rings has no counters, and is not connected", () => {
  const families = parseMetrics(metricsText(sampleOf(device({ connected: false, statistics: null, latency: null }))));
  expect(families.get("xvd_vbd_reads_total")!.samples).toEqual([]);
  expect(families.get("xvd_vbd_request_duration_seconds")!.samples).toEqual([]);
  expect(families.get("xvd_vbd_connected")!.samples[0]!.value).toBe(0);
});

test("a disk of any name comes back from its label", () => {
  const disk = 'a "b"\\n\\\n{c="d"} \u00fc # HELP';
  const { samples } = parseMetrics(metricsText(sampleOf(device({ disk })))).get("xvd_vbd_info")!;
  expect(samples).toEqual([{ name: "xvd_vbd_info", labels: { ...LABELS, disk }, value: 1 }]);
});

describe("the strict reader refuses", () => {
  const good = metricsText(sampleOf(device()));
  test.each<[string, (text: string) => string]>([
    ["an end without a line feed", (text) => text.slice(0, -1)],
    ["a sample twice", (text) => text.replace(/(xvd_vbd_connected\{.*\n)/, "$1$1")],
    ["a TYPE without its HELP", (text) => text.replace(/# HELP xvd_vbd_connected.*\n/, "")],
    ["a sample of another family", (text) => text.replace("xvd_vbd_connected{", "xvd_vbd_other{")],
    ["a quote in a label", (text) => text.replace("/srv/a.dsk", '/srv/"a.dsk')],
    ["a backslash in a label", (text) => text.replace("/srv/a.dsk", "/srv/\\a.dsk")],
    ["a value that is no number", (text) => text.replace(/(xvd_vbd_in_flight\{.*) 4/, "$1 four")],
    ["buckets that are not cumulative", (text) => text.replace(/(operation="read",le="0.000128"\}) 3/, "$1 9")],
    ["a histogram without +Inf", (text) => text.replace(/.*operation="write",le="\+Inf".*\n/, "")],
  ])("%s", (_what, spoil) => {
    expect(() => parseMetrics(good)).not.toThrow();
    expect(spoil(good)).not.toBe(good);
    expect(() => parseMetrics(spoil(good))).toThrow();
  });
});
