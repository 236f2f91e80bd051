/** A backend thread that ends by itself: its disks are served again, nothing is lost, nothing is answered twice. */
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Host } from "#src/dom0/host.js";
import { connectNbd } from "#src/nbd/client.js";
import { MONOTONIC_CLOCK } from "#src/os/clock.js";
import { openDisk } from "#src/stack/disk.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { localTransport } from "#src/xen/xenstore/transport.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";

const dir = tempDir();
const errors: string[] = [];
let host: Host;
let store: XenstoreClient;
let now = 0;

beforeAll(async () => {
  host = await Host.start({
    paths: { run: dir, home: dir },
    clock: { now: () => now, after: MONOTONIC_CLOCK.after },
    ensureDir: (path) => mkdirSync(path, { recursive: true }),
    removeDir: (path) => rmSync(path, { recursive: true, force: true }),
    onError: (message) => errors.push(message),
    onChange: () => {},
  });
  store = new XenstoreClient(localTransport(host.xenstored, 0));
});
afterAll(() => host.stop());

async function attached(name: string, size: number) {
  const disk = createRawDisk(dir, `${name}.dsk`, size);
  const { domid } = await host.createDomain(name);
  const device = await host.attach({ disk, domain: name });
  const states: string[] = [];
  const backend = `/local/domain/0/backend/vbd/${domid}/51712/state`;
  const frontend = `/local/domain/${domid}/device/vbd/51712/state`;
  const seen = async (end: string, path: string) => states.push(`${end} ${await store.readOrNull(path)}`);
  await store.watch(backend, `crash-b-${domid}`, () => void seen("backend", backend));
  await store.watch(frontend, `crash-f-${domid}`, () => void seen("frontend", frontend));
  const connect = () => connectNbd(`nbd+unix:///?socket=${device.socket}`);
  return { disk, domid, states, frontend, backend, connect, client: await connect() };
}

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await what())) await new Promise((resolve) => setTimeout(resolve, 2));
}

test("under a load of writes, killed again and again", async () => {
  const BLOCK = 4096;
  const BLOCKS = 2048;
  const { disk, client, states, connect } = await attached("busy", BLOCK * BLOCKS);
  const version = new Uint8Array(BLOCKS);
  let writes = 0;
  let running = true;
  /** Each writer owns every eighth block: what it wrote last is what must be found. */
  const writer = async (who: number) => {
    for (let i = 0; running; i++) {
      const block = ((i * 37) % (BLOCKS / 8)) * 8 + who;
      version[block]!++;
      await client.write(block * BLOCK, new Uint8Array(BLOCK).fill(version[block]!));
      const found = new Uint8Array(BLOCK);
      if (i % 16 === 0) {
        await client.read(block * BLOCK, found);
        expect(found.every((byte) => byte === version[block])).toBe(true);
      }
      writes++;
    }
  };
  const work = Array.from({ length: 8 }, (_, who) => writer(who));
  for (let kill = 0; kill < 6; kill++) {
    const before = writes;
    await until(() => writes > before + 300);
    await host.crashBackend("xvda", "busy");
    now += 30_000; // twice within a minute is not often
  }
  const before = writes;
  await until(() => writes > before + 300);
  running = false;
  await Promise.all(work);
  await client.flush();
  const file = readFileSync(disk);
  for (let block = 0; block < BLOCKS; block++)
    expect([block, file.subarray(block * BLOCK, (block + 1) * BLOCK).every((byte) => byte === version[block])]).toEqual(
      [block, true],
    );
  expect(states.filter((state) => state.startsWith("frontend")).every((state) => state === "frontend 4")).toBe(true);
  expect(states).toContain("backend 2");
  expect(errors.filter((error) => error.includes("is started again"))).toHaveLength(6);
  await client.close();
  await (await connect()).close();
  await host.detach("xvda", { domain: "busy" });
  await host.destroyDomain("busy");
  await (await openDisk(disk, { writable: true })).close();
});

test("nothing that the dead thread had mapped stays: the guest takes all of its grants back", async () => {
  const { client, disk } = await attached("clean", 1 << 20);
  await client.write(0, new Uint8Array(1 << 20).fill(7));
  await host.crashBackend("xvda", "clean");
  const found = new Uint8Array(1 << 20);
  await client.read(0, found);
  expect(found.every((byte) => byte === 7)).toBe(true);
  await client.close();
  await host.detach("xvda", { domain: "clean" });
  for (let i = 0; i < 40; i++) {
    // A leaked ring would use up the guest's 64 MiB.
    await host.attach({ disk, domain: "clean" });
    await host.detach("xvda", { domain: "clean" });
  }
  await host.destroyDomain("clean");
});

test("a disk that cannot be opened again is closed with the reason; the others of its thread go on", async () => {
  const { disk, client, backend, frontend, domid } = await attached("gone", 1 << 20);
  rmSync(disk);
  await host.crashBackend("xvda", "gone");
  await until(async () => (await store.read(backend)) === "6" && (await store.read(frontend)) === "6");
  expect(await store.read(`/local/domain/0/error/backend/vbd/${domid}/51712/error`)).toContain("gone.dsk");
  await expect(client.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: "IO" });
  await client.close();
  await host.detach("xvda", { domain: "gone" });
  const again = createRawDisk(dir, "again.dsk", 1 << 20);
  expect(await host.attach({ disk: again, domain: "gone" })).toMatchObject({ state: "Connected" });
  await host.destroyDomain("gone");
});

test("a thread that ends five times within a minute is given up, its vbds are Closed, a new disk is served", async () => {
  const { backend, frontend, domid, states, client } = await attached("hopeless", 1 << 20);
  now += 60_000;
  for (let kill = 0; kill < 4; kill++) {
    const reconnects = states.filter((state) => state === "backend 2").length;
    await host.crashBackend("xvda", "hopeless");
    await until(
      () => states.filter((state) => state === "backend 2").length > reconnects && states.at(-1) === "backend 4",
    );
    await client.read(0, new Uint8Array(512));
    now += 10_000;
  }
  const reading = client.read(0, new Uint8Array(512));
  await host.crashBackend("xvda", "hopeless");
  await reading.catch(() => {}); // answered before, or failed after
  await until(async () => (await store.read(backend)) === "6" && (await store.read(frontend)) === "6");
  expect(await store.read(`/local/domain/0/error/backend/vbd/${domid}/51712/error`)).toMatch(
    /ended 5 times within a minute/,
  );
  await client.close();
  await host.detach("xvda", { domain: "hopeless" });
  const disk = createRawDisk(dir, "next.dsk", 1 << 20);
  expect(await host.attach({ disk, domain: "hopeless" })).toMatchObject({ state: "Connected" });
  await host.destroyDomain("hopeless");
});
