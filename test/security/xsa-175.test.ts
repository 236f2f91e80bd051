/** XSA-57, XSA-175, XSA-178 (CVE-2016-4962, 4963): the toolstack believed what a guest may write about its devices. */
import { mkdirSync, rmSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Host } from "#src/dom0/host.js";
import { openDisk } from "#src/stack/disk.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { localTransport } from "#src/xen/xenstore/transport.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";

const dir = tempDir();
let host: Host;
let store: XenstoreClient;

beforeAll(async () => {
  host = await Host.start({
    paths: { run: dir, home: dir },
    ensureDir: (path) => mkdirSync(path, { recursive: true }),
    removeDir: (path) => rmSync(path, { recursive: true, force: true }),
    onError: () => {},
    onChange: () => {},
  });
  store = new XenstoreClient(localTransport(host.xenstored, 0));
});
afterAll(() => host.stop());

async function attached(name: string) {
  const disk = createRawDisk(dir, `${name}.dsk`, 1 << 20);
  const { domid } = await host.createDomain(name);
  await host.attach({ disk, domain: name });
  return { disk, domid, guest: new XenstoreClient(localTransport(host.xenstored, domid)) };
}

test("a guest that names another guest's backend, type and device: its own goes at the detach, the other's stays", async () => {
  const victim = await attached("victim");
  const liar = await attached("liar");
  const frontend = `/local/domain/${liar.domid}/device/vbd/51712`;
  const others = `/local/domain/0/backend/vbd/${victim.domid}/51712`;
  for (const [key, value] of Object.entries({
    backend: others,
    "backend-id": String(victim.domid),
    "virtual-device": "51728",
    "device-type": "cdrom",
    params: "/etc/shadow",
    type: "qdisk",
    script: "/bin/false",
  }))
    await liar.guest.write(`${frontend}/${key}`, value);
  expect(await host.blockDevices("liar")).toMatchObject([
    { devid: 51712, "backend-id": 0, "backend-path": `/local/domain/0/backend/vbd/${liar.domid}/51712` },
  ]);
  const [device] = (await host.domain("liar")).devices;
  expect(device).toMatchObject({ number: 51712, disk: liar.disk, vdev: "xvda" });
  await host.detach("xvda", { domain: "liar", force: true });
  expect(await store.readOrNull(`/local/domain/0/backend/vbd/${liar.domid}/51712`)).toBeNull();
  expect(await store.readOrNull(frontend)).toBeNull();
  await (await openDisk(liar.disk, { writable: true })).close();
  expect(await store.read(`${others}/params`)).toBe(victim.disk);
  expect((await host.domain("victim")).devices).toMatchObject([{ state: "Connected", disk: victim.disk }]);
  await host.destroyDomain("liar");
  await host.destroyDomain("victim");
});

test("what only the toolstack writes: the backend's directory, its own record, the domain's home, a device of one's own making", async () => {
  const { domid, guest } = await attached("writer");
  const backend = `/local/domain/0/backend/vbd/${domid}/51712`;
  for (const path of [
    `${backend}/params`,
    `${backend}/mode`,
    `${backend}/physical-device`,
    `${backend}/physical-device-path`,
    `${backend}/state`,
    `/libxl/${domid}/device/vbd/51712/params`,
    `/libxl/${domid}/type`,
    `/local/domain/${domid}/vm`,
    `/local/domain/${domid}/name`,
    `/local/domain/${domid}/device/vbd/51728/backend`,
    `/local/domain/0/backend/vbd/${domid}/51728/params`,
  ])
    await expect(guest.write(path, "x")).rejects.toThrow(/EACCES|EPERM|denied|permi/i);
  await expect(guest.rm(backend)).rejects.toThrow();
  expect(await guest.readOrNull(`${backend}/sectors`)).toBe("2048"); // its own it may read
  await expect(guest.read(`/libxl/${domid}/device/vbd/51712/params`)).rejects.toThrow();
  await host.destroyDomain("writer");
});

test("a guest that removes its own directory, or writes nonsense over it, is destroyed with nothing left", async () => {
  for (const harm of [
    (guest: XenstoreClient, dir: string) => guest.rm(dir),
    async (guest: XenstoreClient, dir: string) => {
      for (const key of ["backend", "state", "ring-ref", "event-channel"])
        await guest.write(`${dir}/${key}`, "\u0001../..");
    },
  ]) {
    const { disk, domid, guest } = await attached("breaker");
    await harm(guest, `/local/domain/${domid}/device/vbd/51712`);
    await host.destroyDomain("breaker");
    expect(await store.directory("/local/domain/0/backend/vbd").catch(() => [])).not.toContain(String(domid));
    await (await openDisk(disk, { writable: true })).close();
  }
});
