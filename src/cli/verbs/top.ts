/** `xvd top`: the I/O of attached devices, interval by interval. */
import { constants } from "node:os";
import type { Command } from "commander";
import type { IoSample } from "../../dom0/api-types.js";
import { DiskError } from "../../errors.js";
import { dom0Client } from "../dom0.js";
import { Exit } from "../exit.js";
import { type DeviceRates, type IoRates, ioRates } from "../io-rates.js";
import { columns, printJson, printLines } from "../print.js";
import { openScreen, type Screen } from "../screen.js";

interface TopOptions {
  readonly domain?: string;
  readonly interval: number;
  readonly count?: number;
  readonly json?: boolean;
}

export default function define(command: Command): void {
  command
    .option("--domain <name|id>", "only this domain's devices")
    .option("--interval <seconds>", "between two readings, 0.1 to 3600", interval, 1)
    .option("--count <n>", "so many intervals (default: until q or Ctrl-C; 1 with --json)", count)
    .addHelpText(
      "after",
      `
On a terminal the table is drawn anew after each interval; elsewhere each interval prints its lines. --json prints a list
of intervals. P50 and P99 are times from the backend's taking a request until its answer was published, of all requests in
the interval; DEPTH is how many were in flight on average; ERRORS counts those answered with an error in the interval.

Example: xvd top --domain web1 --interval 5`,
    )
    .action(top);
}

async function top(options: TopOptions): Promise<void> {
  const client = dom0Client({ autostart: false });
  let before = await client.io();
  checkDomain(before, options.domain);
  const { json, interval, count = json ? 1 : Number.POSITIVE_INFINITY } = options;
  const ending = new Ending();
  const screen = json ? null : openScreen((key) => (key === "q" || key === "\x03") && ending.end());
  const intervals: IoRates[] = [];
  try {
    screen?.draw([title(options), `the first interval takes ${interval} s ...`]);
    for (let i = 0; i < count && (await ending.wait(interval)); i++) {
      const now = await client.io();
      const rates = ioRates(before, now, options.domain);
      before = now;
      if (json) intervals.push(rates);
      else show(screen, rates, options);
    }
  } finally {
    screen?.close();
    ending.close();
  }
  if (json) printJson(intervals);
  if (ending.signal) throw new Exit(128 + constants.signals[ending.signal]);
}

/** When to end: q and Ctrl-C are how this command ends, other signals how it is ended. */
class Ending {
  signal: NodeJS.Signals | undefined;
  #ended = false;
  #wake: () => void = () => {};
  readonly #stop = (signal: NodeJS.Signals) => {
    if (signal !== "SIGINT") this.signal = signal;
    this.end();
  };

  constructor() {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, this.#stop);
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** False when it ended before `seconds` were over. */
  async wait(seconds: number): Promise<boolean> {
    if (this.#ended) return false;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    return !this.#ended;
  }

  close(): void {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.off(signal, this.#stop);
  }
}

function show(screen: Screen | null, rates: IoRates, options: TopOptions): void {
  const table = rates.devices.length === 0 ? ["nothing is attached"] : tableLines(rates.devices);
  if (screen) screen.draw([`${title(options)}, the last took ${rates.seconds.toFixed(1)} s, q ends`, "", ...table]);
  else printLines([...table, ""]);
}

function title({ domain, interval }: TopOptions): string {
  return `xvd top: ${domain === undefined ? "all devices" : `devices of ${domain}`}, intervals of ${interval} s`;
}

const HEADER = ["DEVICE", "R/S", "W/S", "READ MB/S", "WRITE MB/S", "P50", "P99", "DEPTH", "ERRORS", "DISK"];

function tableLines(devices: readonly DeviceRates[]): string[] {
  return columns([HEADER, ...devices.map(row)], [1, 2, 3, 4, 5, 6, 7, 8]);
}

function row({ domain, vdev, disk, connected, read, write, latency, errors, ...rates }: DeviceRates): string[] {
  return [
    `${domain}/${vdev}`,
    read.iops.toFixed(0),
    write.iops.toFixed(0),
    (read["bytes-per-second"] / 1e6).toFixed(1),
    (write["bytes-per-second"] / 1e6).toFixed(1),
    latency ? duration(latency.p50) : "-",
    latency ? duration(latency.p99) : "-",
    rates["queue-depth"].toFixed(1),
    String(errors),
    connected ? disk : `${disk} (not connected)`,
  ];
}

function duration(us: number): string {
  if (us < 1000) return `${us < 100 ? us.toFixed(1) : us.toFixed(0)} us`;
  return us < 1e6 ? `${(us / 1000).toFixed(1)} ms` : `${(us / 1e6).toFixed(1)} s`;
}

function checkDomain({ domains }: IoSample, domain: string | undefined): void {
  if (domain === undefined || domains.some(({ name, domid }) => name === domain || String(domid) === domain)) return;
  throw new DiskError("NOT_FOUND", `Cannot show devices of domain ${domain}: there is no such domain`);
}

function interval(text: string): number {
  const seconds = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (seconds >= 0.1 && seconds <= 3600) return seconds;
  throw wrongUsage("the interval", text, "0.1 to 3600 seconds");
}

function count(text: string): number {
  if (/^\d{1,9}$/.test(text) && Number(text) > 0) return Number(text);
  throw wrongUsage("the count", text, "1 to 999999999");
}

function wrongUsage(what: string, text: string, allowed: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot show devices: ${what} is ${JSON.stringify(text)}, allowed ${allowed}`, {
    details: { usage: true },
  });
}
