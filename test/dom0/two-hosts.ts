/** Two hosts with control sockets, a domain to move between them, and a load whose every acknowledgement is remembered. */
import { writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { setImmediate as turn } from "node:timers/promises";
import { expect } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { answer } from "#src/dom0/api.js";
import { controlSocket, recordFile } from "#src/dom0/places.js";
import { openDisk } from "#src/stack/disk.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { testHost } from "./host-support.js";

const PAGE = 4096;
export const SIZE = 16 << 20;

type Intercept = (name: string, response: ServerResponse) => Promise<"answer" | "swallow" | "answered, not sent">;

/** A host with its control socket; `intercept` may look at each call, keep it from the host, or its answer from the caller. */
export async function testDaemon(dir: string, name: string) {
  const t = await testHost(dir, name, 20_000);
  const paths = { home: t.run, run: t.run };
  const state = { intercept: (async () => "answer") as Intercept };
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const context = { host: t.host, status: async () => ({ running: true }) as never, stop: () => {} };
    const what = await state.intercept(`${request.method} ${request.url!.split("/")[1]}`, response);
    if (what === "swallow") return request.socket.destroy();
    if (what === "answer") return answer(context, request, response);
    Object.assign(response, { writeHead: () => {}, end: () => request.socket.destroy() });
    return answer(context, request, response);
  };
  const server = createServer((request, response) => void handle(request, response));
  const listen = () => new Promise<void>((resolve) => server.listen(controlSocket(paths), resolve));
  await listen();
  writeFileSync(recordFile(paths), JSON.stringify({ pid: 1, started: "", run: t.run, devices: [] }));
  return {
    ...t,
    paths,
    state,
    server,
    async names() {
      return (await t.host.domains()).map((domain) => domain.name).filter((each) => each !== "Domain-0");
    },
    async stop() {
      server.close();
      server.closeAllConnections();
      await t.host.stop();
    },
  };
}

/** Every block holds the number of the last write to it. Blocks are written again as soon as they were acknowledged. */
export function counters(device: BlockDevice, blocks = 120) {
  const acknowledged = new Array<number>(blocks).fill(0);
  let running = true;
  const lane = async (block: number) => {
    const data = Buffer.alloc(PAGE);
    while (running) {
      const next = acknowledged[block]! + 1;
      data.fill(next & 0xff);
      data.writeUInt32LE(next, 0);
      await device.write(block * PAGE, data);
      acknowledged[block] = next;
      if (block % 40 === 0) await device.flush();
      await turn();
    }
  };
  const lanes = Promise.all(Array.from({ length: blocks }, (_, block) => lane(block)));
  lanes.catch(() => {});
  return {
    total: () => acknowledged.reduce((sum, count) => sum + count, 0),
    /** Until each block was written since. */
    async progress() {
      const before = [...acknowledged];
      await expect.poll(() => acknowledged.every((count, i) => count > before[i]!), { timeout: 8000 }).toBe(true);
    },
    async stop() {
      running = false;
      await lanes;
    },
    /** What was acknowledged last is there, in whole blocks. */
    async verify(found: BlockDevice) {
      const into = Buffer.alloc(blocks * PAGE);
      await found.read(0, into);
      for (const [block, count] of acknowledged.entries()) {
        const part = into.subarray(block * PAGE, (block + 1) * PAGE);
        expect([block, part.readUInt32LE(0)]).toEqual([block, count]);
        expect(part.subarray(4).every((byte) => byte === (count & 0xff))).toBe(true);
      }
    },
  };
}

export async function written(path: string, check: (device: BlockDevice) => Promise<void>): Promise<void> {
  const device = await openDisk(path, { forceShare: true });
  await check(device);
  await device.close();
}

/** Host `a` has domain `web` with `disk`; host `b` is empty. */
export async function twoHosts() {
  const dir = tempDir();
  const [a, b] = await Promise.all([testDaemon(dir, "a"), testDaemon(dir, "b")]);
  const disk = createRawDisk(dir, "web.dsk", SIZE);
  await a.host.createDomain("web", { memory: 16 << 20 });
  await a.host.attach({ disk, domain: "web" });
  return { dir, a, b, disk };
}

export function move(from: TestDaemon, to: TestDaemon, more = {}) {
  return from.host.migrations.migrate("web", { to: to.run, ...more });
}

export type TestDaemon = Awaited<ReturnType<typeof testDaemon>>;
