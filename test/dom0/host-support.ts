/** A host in this process, in a folder of its own. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Host } from "#src/dom0/host.js";
import { openDisk } from "#src/stack/disk.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { localTransport } from "#src/xen/xenstore/transport.js";

export async function testHost(dir: string, name = "h", timeoutMs = 20_000) {
  const errors: string[] = [];
  const run = join(dir, name);
  mkdirSync(run, { recursive: true });
  const host = await Host.start({
    paths: { run, home: run },
    timeoutMs,
    ensureDir: (path) => mkdirSync(path, { recursive: true }),
    removeDir: (path) => rmSync(path, { recursive: true, force: true }),
    onError: (message) => errors.push(message),
    newToken: () => `${name}-${Math.random()}`,
    onChange: () => {},
  });
  const store = new XenstoreClient(localTransport(host.xenstored, 0));
  return {
    host,
    run,
    errors,
    store,
    socket: (domain: string, vdev = "xvda") =>
      `nbd+unix:///?socket=${encodeURIComponent(join(run, "domains", domain, "dev", vdev))}`,
    /** What is left of a domain in the store. */
    async traces(domid: number): Promise<string[]> {
      const places = [`/local/domain/${domid}`, `/libxl/${domid}`, `/local/domain/0/backend/vbd/${domid}`];
      const found = await Promise.all(places.map((path) => store.readOrNull(path)));
      return places.filter((_, i) => found[i] !== null);
    },
  };
}

/** Throws when somebody holds the disk. */
export async function isFree(path: string): Promise<void> {
  await (await openDisk(path, { writable: true })).close();
}

/** A promise, and how it stands now. */
export function watched<T>(promise: Promise<T>) {
  const state = { promise, settled: false };
  promise.then(
    () => (state.settled = true),
    () => (state.settled = true),
  );
  return state;
}
