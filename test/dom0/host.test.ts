/** The simulated host from inside: what an attach leaves when it works, and when it does not. */
import { truncateSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Host } from "#src/dom0/host.js";
import { connectNbd } from "#src/nbd/client.js";
import type { XenstoreClient } from "#src/xen/xenstore/client.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { isFree, testHost } from "./host-support.js";

const dir = tempDir();
let t: Awaited<ReturnType<typeof testHost>>;
/** For guests that are never going to answer. */
let impatient: Awaited<ReturnType<typeof testHost>>;
let host: Host;
let store: XenstoreClient;

beforeAll(async () => {
  [t, impatient] = await Promise.all([testHost(dir), testHost(dir, "i", 300)]);
  ({ host, store } = t);
});
afterAll(() => Promise.all([t.host.stop(), impatient.host.stop()]));

const BACKEND = (domid: number) => `/local/domain/0/backend/vbd/${domid}`;

async function nothingLeft(domid: number, { store } = t): Promise<void> {
  expect(await store.directory(`/local/domain/${domid}/device/vbd`)).toEqual([]);
  expect(await store.directory(BACKEND(domid)).catch(() => [])).toEqual([]);
  expect(await store.readOrNull(`/libxl/${domid}/device/vbd/51712/frontend`)).toBeNull();
}

test("the keys of a connected vbd, each with its writer's permissions", async () => {
  const disk = createRawDisk(dir, "keys.dsk", 4 << 20);
  const { domid } = await host.createDomain("keys");
  await host.attach({ disk, domain: "keys" });
  const backend = `${BACKEND(domid)}/51712`;
  const frontend = `/local/domain/${domid}/device/vbd/51712`;
  const read = (path: string) => store.read(path);
  for (const [key, value] of Object.entries({
    "frontend-id": String(domid),
    frontend,
    online: "1",
    state: "4",
    dev: "xvda",
    type: "phy",
    mode: "w",
    params: disk,
    "device-type": "disk",
    removable: "0",
    sectors: "8192",
    "sector-size": "512",
    "physical-sector-size": "512",
    info: "0",
    "feature-flush-cache": "1",
    "feature-discard": "1",
    "hotplug-status": "connected",
  }))
    expect([key, await read(`${backend}/${key}`)]).toEqual([key, value]);
  for (const [key, value] of Object.entries({
    backend,
    "backend-id": "0",
    state: "4",
    "virtual-device": "51712",
    "device-type": "disk",
    protocol: "x86_64-abi",
  }))
    expect([key, await read(`${frontend}/${key}`)]).toEqual([key, value]);
  for (const key of ["ring-ref", "event-channel"]) expect(Number(await read(`${frontend}/${key}`))).toBeGreaterThan(0);
  expect(await store.getPerms(backend)).toEqual(["n0", `r${domid}`]);
  expect(await store.getPerms(frontend)).toEqual([`n${domid}`, "r0"]);
  expect(await store.getPerms(`/libxl/${domid}/device/vbd/51712`)).toEqual(["n0"]);
  await host.detach("xvda", { domain: "keys" });
  await nothingLeft(domid);
  await isFree(disk);
});

test("a guest that never connects: the attach says which end stopped where, and nothing is left", async () => {
  const disk = createRawDisk(dir, "never.dsk", 4 << 20);
  const { domid } = await impatient.host.createDomain("silent", { blkfront: false });
  await expect(impatient.host.attach({ disk, domain: "silent" })).rejects.toMatchObject({
    code: "IO",
    message: expect.stringMatching(
      /^Cannot attach xvda to domain \d+: .*frontend stopped in state 1 \(Initialising\), the backend in state 2 \(InitWait\)/,
    ),
    details: { frontend: 1, backend: 2 },
  });
  await nothingLeft(domid, impatient);
  await isFree(disk);
  expect((await impatient.host.domains()).find(({ name }) => name === "silent")?.devices).toEqual([]);
});

test.each([
  [
    "a ring that was never granted",
    { "ring-ref": "4000", "event-channel": "1", protocol: "x86_64-abi" },
    /mapping ring-ref 4000/,
  ],
  [
    "a port that is not there",
    { "ring-ref": "9", "event-channel": "900", protocol: "x86_64-abi" },
    /ring-ref 9|port 900/,
  ],
  ["an unknown protocol", { "ring-ref": "8", "event-channel": "1", protocol: "vax-abi" }, /protocol is "vax-abi"/],
  ["no ring at all", { protocol: "x86_64-abi" }, /ring-ref is missing/],
  ["a ring-ref that is no number", { "ring-ref": "-1", "event-channel": "1" }, /ring-ref is "-1"/],
  ["several queues", { "multi-queue-num-queues": "5" }, /multi-queue-num-queues is "5", allowed 1..4/],
])("a frontend that offers %s is refused with the reason", async (what, keys, reason) => {
  const name = `liar-${what.replaceAll(" ", "-")}`;
  const disk = createRawDisk(dir, `${name}.dsk`, 1 << 20);
  const { domid } = await host.createDomain(name, { blkfront: false });
  const frontend = `/local/domain/${domid}/device/vbd/51712`;
  const unwatch = await store.watch(frontend, `liar-${domid}`, async () => {
    if ((await store.readOrNull(`${frontend}/state`)) !== "1") return;
    for (const [key, value] of Object.entries(keys)) await store.write(`${frontend}/${key}`, value);
    await store.write(`${frontend}/state`, "3");
  });
  await expect(host.attach({ disk, domain: name })).rejects.toMatchObject({ message: expect.stringMatching(reason) });
  await unwatch();
  await nothingLeft(domid);
  await isFree(disk);
});

test("a disk that cannot be opened is told as it is", async () => {
  const { domid } = await host.createDomain("nodisk");
  await expect(host.attach({ disk: `${dir}/nothere.dsk`, domain: "nodisk" })).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
  await nothingLeft(domid);
});

test("a guest that writes states at random grows nothing and harms nobody", async () => {
  const disk = createRawDisk(dir, "mad.dsk", 1 << 20);
  const calm = createRawDisk(dir, "calm.dsk", 1 << 20);
  const { domid } = await host.createDomain("mad");
  await host.createDomain("calm");
  await host.attach({ disk: calm, domain: "calm" });
  await host.attach({ disk, domain: "mad" });
  const frontend = `/local/domain/${domid}/device/vbd/51712/state`;
  for (let i = 0; i < 300; i++) await store.write(frontend, String([3, 5, 6, 1, 3, 4, 9, 2][i % 8]));
  await host.destroyDomain("mad");
  await isFree(disk);
  const [calmDevice] = (await host.domains()).find(({ name }) => name === "calm")!.devices;
  expect(calmDevice!.state).toBe("Connected");
});

test("a disk that fails is told in the statistics, and the guest gets an error, not silence", async () => {
  const disk = createRawDisk(dir, "shrunk.dsk", 1 << 20);
  await host.createDomain("unlucky");
  const device = await host.attach({ disk, domain: "unlucky" });
  truncateSync(disk, 4096); // somebody cuts the file behind our back
  const client = await connectNbd(`nbd+unix:///?socket=${device.socket}`);
  await expect(client.read(512 << 10, new Uint8Array(4096))).rejects.toMatchObject({ code: "IO" });
  await client.read(0, new Uint8Array(4096));
  await client.close();
  const [seen] = (await host.domains()).find(({ name }) => name === "unlucky")!.devices;
  expect(seen!.statistics).toMatchObject({ errors: 1, lastError: expect.stringContaining("shrunk.dsk") });
  await host.destroyDomain("unlucky");
});

test("detached by force and attached again at once, many times", async () => {
  const disk = createRawDisk(dir, "again.dsk", 1 << 20);
  await host.createDomain("again");
  for (let i = 0; i < 20; i++) {
    const device = await host.attach({ disk, domain: "again" });
    expect(device).toMatchObject({ vdev: "xvda", state: "Connected" });
    const client = await connectNbd(`nbd+unix:///?socket=${device.socket}`);
    await client.read(0, new Uint8Array(4096));
    await client.close();
    await host.detach("xvda", { domain: "again", force: true });
  }
});

test("many attaches at once take different letters", async () => {
  await host.createDomain("busy");
  const disks = Array.from({ length: 6 }, (_, i) => createRawDisk(dir, `busy${i}.dsk`, 1 << 20));
  const devices = await Promise.all(disks.map((disk) => host.attach({ disk, domain: "busy" })));
  expect(devices.map(({ vdev }) => vdev).sort()).toEqual(["xvda", "xvdb", "xvdc", "xvdd", "xvde", "xvdf"]);
  await host.destroyDomain("busy");
  for (const disk of disks) await isFree(disk);
});

test("a whole disk and one of its partitions exclude each other", async () => {
  const disk = createRawDisk(dir, "part.dsk", 1 << 20);
  const other = createRawDisk(dir, "part2.dsk", 1 << 20);
  await host.createDomain("parts");
  await host.attach({ disk, domain: "parts", vdev: "xvda1" });
  await expect(host.attach({ disk: other, domain: "parts", vdev: "xvda" })).rejects.toMatchObject({ code: "DENIED" });
  expect((await host.attach({ disk: other, domain: "parts", vdev: "xvda2" })).number).toBe(51714);
});
