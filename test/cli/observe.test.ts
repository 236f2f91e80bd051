/** What the command line shows of the driver: attach --explain, list --verbose, top, and /metrics on the control socket. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type IoRates, ioRates } from "#src/cli/io-rates.js";
import type { DeviceDetails, IoSample } from "#src/dom0/api-types.js";
import { connectNbd } from "#src/nbd/client.js";
import { libc } from "#src/os/libc.js";
import { parseMetrics } from "../dom0/prometheus.js";
import { havePeer } from "../support/peers.js";
import { XVD, type XvdResult, xvdWorld } from "../support/xvd.js";

const world = xvdWorld();
let explained: string;

beforeAll(async () => {
  await world.xvd("create", "a.dsk", "8M");
  explained = await world.xvd("attach", "a.dsk", "--explain");
});

/** The lines under a title of `--explain`. */
function section(text: string, title: RegExp): string[] {
  const lines = text.split("\n");
  const from = lines.findIndex((line) => /^ {2}\S/.test(line) && title.test(line));
  expect(from, `${title} in ${text}`).toBeGreaterThanOrEqual(0);
  const to = lines.findIndex((line, i) => i > from && !line.startsWith("    "));
  return lines.slice(from + 1, to < 0 ? undefined : to).map((line) => line.trim());
}

test("attach --explain tells the way to Connected, in the names of blkif.h", () => {
  const [first, socket] = explained.split("\n");
  expect(first).toMatch(/^\/dev\/xvda +8 MiB {2}rw {2}Connected/);
  expect(socket).toMatch(/^socket /);
  const steps = section(explained, /steps and states/);
  expect(steps[0]).toMatch(/^\+\d+\.\d ms {2}toolstack {2}writes both directories$/);
  expect(steps.flatMap((line) => / backend {4}(\d)/.exec(line)?.[1] ?? [])).toEqual(["1", "2", "4"]);
  expect(steps.at(-1)).toMatch(/done: both ends are Connected$/);
  expect(section(explained, /^ {2}backend's keys, \/local\/domain\/0\/backend\/vbd\/0\/51712$/)).toContainEqual(
    expect.stringMatching(/^script +physical-device +0:0$/),
  );
  expect(section(explained, /^ {2}frontend's keys, \/local\/domain\/0\/device\/vbd\/51712$/)).toContainEqual(
    expect.stringMatching(/^frontend +ring-ref +\d+$/),
  );
  expect(section(explained, /negotiated/)).toContainEqual(expect.stringMatching(/^protocol +x86_64-abi$/));
  expect(section(explained, /ring 0/).join("\n")).toMatch(/req_prod +req_cons +req_event +rsp_prod/);
  expect(section(explained, /grants/).join()).toMatch(/^ring-ref \d+,mapped now \d+, kept \(persistent\) \d+$/);
  expect(section(explained, /counters/).join()).toMatch(/rd_req \d+, wr_req \d+, f_req \d+, ds_req \d+, oo_req 0/);
  expect(section(explained, /clients/)).toEqual(["none"]);
});

test("a failed attach --explain prints its steps and states before the error; --json has them in its details", async () => {
  const { code, stdout, stderr } = await world.run(["attach", "missing.dsk", "--explain"]);
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  const lines = stderr.trimEnd().split("\n");
  expect(lines[0]).toMatch(/^ +\+\d+\.\d ms {2}toolstack {2}writes both directories$/);
  expect(lines.at(-2)).toMatch(/toolstack {2}gives up, takes everything back$/);
  expect(lines.at(-1)).toMatch(/^xvd attach: cannot open .*missing\.dsk/);
  expect(stderr).toMatch(/backend {4}2 InitWait\n/);
  const failed = await world.run(["attach", "missing.dsk", "--json"]);
  expect(failed.stderr.trimEnd().split("\n")).toHaveLength(1);
  const { journal } = JSON.parse(failed.stderr).error.details;
  expect(journal[0]).toMatch(/writes both directories$/);
  expect((await world.run(["attach", "missing.dsk"])).stderr.split("\n")).toHaveLength(2);
});

describe("with a client", () => {
  let client: Awaited<ReturnType<typeof connectNbd>>;
  beforeAll(async () => {
    client = await connectNbd(`nbd+unix:///?socket=${encodeURIComponent(world.path("run/domains/Domain-0/dev/xvda"))}`);
  });
  afterAll(() => client.close());

  test("list --verbose names it; --json has the same under its keys", async () => {
    await client.write(0, new Uint8Array(4096).fill(1));
    const [device] = await world.json<DeviceDetails[]>("list", "--verbose");
    expect(Object.keys(device!)).toEqual(
      expect.arrayContaining(["journal", "keys", "features", "grants", "event-channels", "clients", "statistics"]),
    );
    expect(device!.statistics!.rings[0]!.req_prod).toBe(device!["frontend-rings"][0]!.req_prod);
    const shown = section(await world.xvd("list", "--verbose", "--domain", "0"), /clients/);
    const user = libc() ? `\\S.* \\(pid ${process.pid}\\)` : "a process that is not known";
    expect(shown).toEqual([expect.stringMatching(new RegExp(`^/dev/xvda +${user}$`))]);
  });

  test("top counts what is done in its interval", async () => {
    let ended = false;
    const load = (async () => {
      const block = new Uint8Array(65536).fill(7);
      while (!ended) await Promise.all([client.write(0, block), client.read(1 << 20, block)]);
    })();
    const [rates, ...more] = await world.json<IoRates[]>("top", "--interval", "0.3");
    expect(more).toEqual([]);
    const lines = (await world.xvd("top", "--interval", "0.1", "--count", "2", "--domain", "Domain-0")).split("\n");
    ended = true;
    await load;
    const [device] = rates!.devices;
    expect(device).toMatchObject({ domain: "Domain-0", vdev: "xvda", connected: true, errors: 0 });
    for (const { iops, latency, ...way } of [device!.read, device!.write]) {
      expect(iops).toBeGreaterThan(0);
      expect(way["bytes-per-second"]).toBeCloseTo(iops * 65536, -3);
      expect(latency!.p50).toBeLessThanOrEqual(latency!.p99);
    }
    expect(device!["queue-depth"]).toBeGreaterThan(0);
    expect(lines.filter((line) => line.startsWith("DEVICE"))).toHaveLength(2);
    expect(lines.filter((line) => /^Domain-0\/xvda +\d+ +\d+ /.test(line))).toHaveLength(2);
    expect(lines.join("\n")).not.toContain("\x1b");
  });

  test("a scrape of the control socket", async () => {
    const { type, body } = await get("/metrics");
    expect(type).toBe("text/plain; version=0.0.4; charset=utf-8");
    const families = parseMetrics(body);
    const sample = families.get("xvd_vbd_info")!.samples[0]!;
    expect(sample.labels).toEqual({ domain: "Domain-0", domid: "0", vdev: "xvda", disk: world.path("a.dsk") });
    expect(families.get("xvd_vbd_writes_total")!.samples[0]!.value).toBeGreaterThan(0);
    expect(families.get("xvd_domains")!.samples[0]).toMatchObject({ labels: { state: "running" }, value: 1 });
  });

  test.skipIf(!havePeer("script"))(
    "on a terminal top draws on the other screen, ends by q and gives the terminal back",
    async () => {
      const { code, out } = await onTerminal(`${process.execPath} ${XVD} top --interval 0.1; stty -a`, (text, type) => {
        if (text.split("DEVICE").length > 2) type("q");
      });
      expect(code).toBe(0);
      const [before, after] = out.split("\x1b[?25h\x1b[?1049l");
      expect(before).toContain("\x1b[?1049h\x1b[?25l\x1b[H");
      expect(before).toContain("Domain-0/xvda");
      expect(after).toMatch(/[^-]icanon/);
      expect(after).toMatch(/[^-]echo\b/);
    },
  );
});

test.each<[string, string[], number, RegExp]>([
  ["an interval that is too short", ["--interval", "0"], 2, /the interval is "0", allowed 0.1 to 3600/],
  ["an interval that is none", ["--interval", "1e3"], 2, /allowed 0.1/],
  ["a count that is none", ["--count", "0"], 2, /the count is "0", allowed 1/],
  ["a domain that is not there", ["--domain", "nobody"], 1, /there is no such domain/],
])("top refuses %s", async (_what, flags, code, reason) => {
  const result = await world.run(["top", ...flags]);
  expect(result).toMatchObject({ code, stdout: "", stderr: expect.stringMatching(reason) });
});

test("top without a daemon says so", async () => {
  const other = { env: { XVD_RUN: world.path("none") } };
  expect(await world.run(["top"], other)).toMatchObject({ code: 1, stderr: expect.stringMatching(/none runs/) });
});

test.each([
  ["SIGINT", 0],
  ["SIGTERM", 143],
] as const)("%s ends top in order", async (signal, code) => {
  const child = spawn(process.execPath, [XVD, "top", "--interval", "0.1"], { env: { ...process.env, ...world.env } });
  onTestFinished(() => void child.kill("SIGKILL"));
  child.stdout.once("data", () => child.kill(signal));
  const [ended] = await once(child, "close");
  expect(ended).toBe(code);
});

test("rates of a device that came, or whose rings were connected anew, count from its beginning", () => {
  const sample = (time: number, number: number, rd_req: number): IoSample =>
    ({
      time,
      domains: [],
      devices: [
        {
          domid: 1,
          number,
          domain: "w",
          vdev: "xvda",
          disk: "d",
          size: 1,
          connected: true,
          statistics: {
            rd_req,
            wr_req: 0,
            f_req: 0,
            ds_req: 0,
            oo_req: 0,
            rd_sect: rd_req,
            wr_sect: 0,
            errors: 0,
            rings: [],
            lastError: null,
            failure: null,
          },
          latency: null,
        },
      ],
    }) as unknown as IoSample;
  const iops = (before: IoSample, now: IoSample) => ioRates(before, now).devices[0]!.read.iops;
  expect(iops(sample(0, 5, 100), sample(2000, 5, 300))).toBe(100);
  expect(iops(sample(0, 5, 500), sample(2000, 5, 300))).toBe(150);
  expect(iops(sample(0, 6, 100), sample(2000, 5, 300))).toBe(150);
  expect(ioRates(sample(0, 5, 1), sample(9, 5, 1), "other").devices).toEqual([]);
});

function get(path: string): Promise<{ type: string | undefined; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: world.path("run/dom0.sock"), path }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({ type: response.headers["content-type"], body: Buffer.concat(chunks).toString("utf8") }),
      );
    });
    call.on("error", reject);
    call.end();
  });
}

/** Runs a shell command on a terminal of its own; `watch` sees all that came so far and may type, once. */
function onTerminal(
  command: string,
  watch: (text: string, type: (keys: string) => void) => void,
): Promise<Pick<XvdResult, "code"> & { out: string }> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...world.env, TERM: "xterm" };
    const child = spawn("script", ["-qec", command, "/dev/null"], { cwd: world.dir, env });
    onTestFinished(() => void child.kill());
    let out = "";
    let typed = false;
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString("utf8");
      if (!typed)
        watch(out, (keys) => {
          typed = true;
          child.stdin.write(keys);
        });
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out }));
  });
}
