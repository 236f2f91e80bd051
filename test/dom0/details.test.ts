/** What the host shows of its devices: journal, keys and who wrote them, features, grants, clients, counters. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { DeviceDetails } from "#src/dom0/api-types.js";
import { connectNbd } from "#src/nbd/client.js";
import { libc } from "#src/os/libc.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { testHost } from "./host-support.js";

const dir = tempDir();
let t: Awaited<ReturnType<typeof testHost>>;
beforeAll(async () => {
  t = await testHost(dir);
});
afterAll(() => t.host.stop());

const statesOf = ({ journal }: DeviceDetails, by: string) =>
  journal.entries.filter((entry) => entry.by === by).map(({ state, what }) => `${state} ${what}`);

test("an attached device: both ends' states in order, every key with its writer, and what was agreed", async () => {
  await t.host.createDomain("seen", { config: { vcpus: 2 } });
  const disk = createRawDisk(dir, "seen.dsk", 8 << 20);
  const { domid } = await t.host.attach({ disk, domain: "seen", options: { ringPageOrder: 1 } });
  const [device] = await t.host.details("seen");
  expect(statesOf(device!, "backend")).toEqual(["1 Initialising", "2 InitWait", "4 Connected"]);
  expect(statesOf(device!, "frontend")).toEqual(["1 Initialising", "3 Initialised", "4 Connected"]);
  const times = device!.journal.entries.map(({ at }) => at);
  expect(times).toEqual([...times].sort((a, b) => a - b));
  expect(times[0]).toBeGreaterThanOrEqual(0);
  expect(device!.journal.entries.at(-1)).toMatchObject({ by: "toolstack", what: "done: both ends are Connected" });

  const by = Object.fromEntries(device!.keys.backend.map(({ key, by }) => [key, by]));
  expect(by).toMatchObject({
    frontend: "toolstack",
    mode: "toolstack",
    "discard-enable": "toolstack",
    "physical-device": "script",
    "hotplug-status": "script",
    state: "backend",
    sectors: "backend",
    "feature-flush-cache": "backend",
    "max-ring-page-order": "backend",
    "multi-queue-max-queues": "backend",
  });
  const front = Object.fromEntries(device!.keys.frontend.map(({ key, value, by }) => [key, `${by} ${value}`]));
  const ring = device!.ring!.rings[1]!;
  expect(front).toMatchObject({
    "backend-id": "toolstack 0",
    "xvdkit-ring-page-order": "toolstack 1",
    "ring-page-order": "frontend 1",
    "multi-queue-num-queues": "frontend 2",
    "queue-1/ring-ref1": `frontend ${ring.ringRefs[1]}`,
    "queue-1/event-channel": `frontend ${ring.eventChannel}`,
    state: "frontend 4",
  });
  // What is shown is what the store has, all of it.
  const names = await t.store.directory(`/local/domain/0/backend/vbd/${domid}/51712`);
  expect(device!.keys.backend.map(({ key }) => key)).toEqual(names);

  expect(device!.features).toEqual({
    protocol: "x86_64-abi",
    "ring-page-order": 1,
    "multi-queue-num-queues": 2,
    "feature-max-indirect-segments": 256,
    "max-segments": 32,
    "feature-persistent": true,
    "feature-flush-cache": true,
    "feature-barrier": true,
    "feature-discard": true,
    "discard-granularity": 4096,
    "discard-secure": false,
    "sector-size": 512,
    "physical-sector-size": 512,
    sectors: 16384,
    info: 0,
  });
  expect(device!.grants["ring-refs"]).toHaveLength(4);
  expect(device!["event-channels"].map(({ frontend }) => frontend)).toEqual(
    device!.ring!.rings.map(({ eventChannel }) => eventChannel),
  );
  await t.host.destroyDomain("seen");
});

test("grants, indices and durations follow the requests", async () => {
  await t.host.createDomain("busy");
  const disk = createRawDisk(dir, "busy.dsk", 8 << 20);
  await t.host.attach({ disk, domain: "busy" });
  const client = await connectNbd(t.socket("busy"));
  for (let i = 0; i < 20; i++) await client.write(i * 65536, new Uint8Array(65536).fill(i + 1));
  await client.flush();
  const [device] = await t.host.details("busy");
  const [back, front] = [device!.statistics!.rings[0]!, device!["frontend-rings"][0]!];
  expect(back).toMatchObject({ req_prod: front.req_prod, rsp_prod: front.rsp_prod, in_flight: 0 });
  expect(back.req_event).toBe(back.req_cons + 1);
  expect(front.rsp_event).toBeLessThanOrEqual(front.rsp_cons + 1);
  expect(device!.grants.persistent).toBeGreaterThanOrEqual(16);
  expect(device!.grants.mapped).toBe(device!.grants.persistent);
  const { devices } = await t.host.io();
  const { latency, statistics, connected } = devices.find(({ domain }) => domain === "busy")!;
  expect(connected).toBe(true);
  expect(latency!.write.count).toBe(statistics!.wr_req);
  expect(latency!.flush.count).toBe(statistics!.f_req);
  expect(latency!.read.count).toBe(statistics!.rd_req);
  expect(latency!.write.sum).toBeGreaterThan(0);
  await client.close();
  await t.host.destroyDomain("busy");
});

test.skipIf(!libc())("a client is named by its process, for the disk and in the refusal to detach it", async () => {
  await t.host.createDomain("used");
  const disk = createRawDisk(dir, "used.dsk", 8 << 20);
  await t.host.attach({ disk, domain: "used" });
  const client = await connectNbd(t.socket("used"), { connections: 2 });
  const [device] = await t.host.details("used");
  expect(device!.connections).toBe(2);
  for (const user of device!.clients)
    expect(user).toEqual({ device: "/dev/xvda", pid: process.pid, command: expect.stringMatching(/./) });
  await expect(t.host.detach("xvda", { domain: "used" })).rejects.toMatchObject({
    code: "DENIED",
    message: expect.stringMatching(
      new RegExp(`in use, 2 clients are connected to its sockets in .*: \\S.* \\(pid ${process.pid}\\), allowed`),
    ),
    details: { pids: [process.pid] },
  });
  await client.close();
  await t.host.destroyDomain("used");
});

test("an attach that fails carries its journal: which step waited for whom, and that all was taken back", async () => {
  const impatient = await testHost(dir, "i", 300);
  const { domid } = await impatient.host.createDomain("silent", { blkfront: false });
  const disk = createRawDisk(dir, "silent.dsk", 4 << 20);
  const error = await impatient.host.attach({ disk, domain: "silent" }).catch((reason) => reason);
  const journal = (error.details.journal as string[]).map((line) => line.replace(/^ *\+[\d.]+ ms {2}(\S+) +/, "$1: "));
  expect(journal.filter((line) => line.startsWith("toolstack"))).toEqual([
    "toolstack: writes both directories",
    "toolstack: waits for the backend to offer itself (InitWait)",
    `toolstack: opens ${disk}`,
    "toolstack: tells the backend of the open disk (physical-device)",
    "toolstack: waits for the backend to be Connected",
    "toolstack: gives up, takes everything back",
  ]);
  expect(journal.filter((line) => line.startsWith("backend"))).toEqual([
    "backend: 1 Initialising",
    "backend: 2 InitWait",
  ]);
  expect(journal).toContain("frontend: 1 Initialising");
  expect(error.details).toMatchObject({ frontend: 1, backend: 2 });
  expect(await impatient.host.details("silent")).toEqual([]);
  await impatient.host.destroyDomain("silent");
  expect(await impatient.traces(domid)).toEqual([]);
  await impatient.host.stop();
});

test("a guest's own keys are cut short, and do not pass for the toolstack's", async () => {
  const { domid } = await t.host.createDomain("chatty");
  const disk = createRawDisk(dir, "chatty.dsk", 4 << 20);
  await t.host.attach({ disk, domain: "chatty" });
  const frontend = `/local/domain/${domid}/device/vbd/51712`;
  await t.store.write(`${frontend}/feature-noise`, "x".repeat(3000));
  for (let i = 0; i < 300; i++) await t.store.write(`${frontend}/junk-${i}`, "");
  await t.store.write(`${frontend}/protocol`, "changed behind the backend's back");
  const [device] = await t.host.details("chatty");
  expect(device!.keys.frontend).toHaveLength(128);
  expect(device!.keys.frontend.find(({ key }) => key === "feature-noise")).toEqual({
    key: "feature-noise",
    value: "x".repeat(256),
    by: "frontend",
  });
  for (const { key, by } of device!.keys.frontend) if (key.startsWith("junk")) expect(by).toBe("frontend");
  expect(device!.features!.protocol).toBe("x86_64-abi");
  await t.host.destroyDomain("chatty");
});
