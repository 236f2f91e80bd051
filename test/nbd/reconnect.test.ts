/** A lost connection is made again, and what was not answered is sent again in its order; within bounds, and to the same export only. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { connectNbd } from "#src/nbd/client.js";
import { type NbdServer, serveNbd } from "#src/nbd/server.js";
import { tempDir } from "../support/temp-dir.js";
import { gatedDevice } from "./devices.js";

const QUICK = { attempts: 5, firstDelayMs: 1 };
const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

const serve = (path: string, device: BlockDevice): Promise<NbdServer> =>
  serveNbd({ path, exports: new Map([["x", { device }]]), limits: { closeTimeoutMs: 20 } });

/** A wire between client and server that the test can cut. */
async function wire(target: string): Promise<{ uri: string; cut(): void; connections(): number }> {
  const path = join(tempDir(), "wire");
  const sockets = new Set<Socket>();
  let count = 0;
  const server: Server = createServer((near) => {
    count++;
    const far = connect(target);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  open.push({
    close: () => {
      cut();
      return new Promise((resolve) => void server.close(() => resolve()));
    },
  });
  return { uri: `nbd+unix:///x?socket=${path}`, cut, connections: () => count };
}

async function client(uri: string, reconnect = QUICK, connections = 1): Promise<BlockDevice> {
  const device = await connectNbd(uri, { reconnect, connections });
  open.push(device);
  return device;
}

test("reads and writes in flight end as if nothing had happened, on every connection", async () => {
  const gate = gatedDevice(1 << 20);
  const path = join(tempDir(), "s");
  open.push(await serve(path, gate.device));
  const cuttable = await wire(path);
  const device = await client(cuttable.uri, QUICK, 2);
  const into = Buffer.alloc(512);
  const work = [device.read(0, into), device.write(512, Buffer.alloc(512)), device.read(1024, Buffer.alloc(512))];
  await gate.waiting(3);
  cuttable.cut();
  await gate.waiting(6); // the same again, while the first are still in the device
  gate.open();
  await Promise.all(work);
  expect(into).toEqual(Buffer.alloc(512, 0x5a));
  expect(cuttable.connections()).toBe(4);
  await device.flush();
});

test("writes are sent again in the order in which they were sent", async () => {
  const order: number[] = [];
  let hold: (() => void) | undefined;
  const held = new Promise<void>((resolve) => (hold = resolve));
  const device = defineDevice({
    label: "log",
    size: 1 << 20,
    read: async () => {},
    async write(offset) {
      order.push(offset);
      if (order.length <= 4) await held;
    },
  });
  const path = join(tempDir(), "s");
  open.push(await serve(path, device));
  const cuttable = await wire(path);
  const remote = await client(cuttable.uri);
  const writes = [3, 1, 2, 0].map((i) => remote.write(i * 4096, Buffer.alloc(4096, i)));
  await expect.poll(() => order.length).toBe(4);
  cuttable.cut();
  writes.push(remote.write(7 * 4096, Buffer.alloc(4096, 7))); // behind all that waits
  await Promise.all(writes);
  hold!();
  expect(order.slice(4)).toEqual([3, 1, 2, 0, 7].map((i) => i * 4096));
});

describe("gives up", () => {
  test("after so many attempts, with an error that tells, and for all that comes later", async () => {
    const path = join(tempDir(), "s");
    const server = await serve(path, memoryDevice(1 << 20));
    const device = await client(server.uri("x"));
    await server.close();
    const error = { code: "IO", message: expect.stringContaining("and 5 attempts to connect again failed") };
    await expect(device.read(0, Buffer.alloc(512))).rejects.toMatchObject(error);
    await expect(device.write(0, Buffer.alloc(512))).rejects.toMatchObject(error);
  });

  test("at once when told to", async () => {
    const path = join(tempDir(), "s");
    const server = await serve(path, memoryDevice(1 << 20));
    const device = await client(server.uri("x"), { attempts: 0, firstDelayMs: 1 });
    await server.close();
    await expect(device.read(0, Buffer.alloc(512))).rejects.toMatchObject({
      code: "IO",
      message: expect.not.stringContaining("attempt"),
    });
  });

  test("when a request ends every connection it is sent on", async () => {
    const path = join(tempDir(), "s");
    const cut: { now: () => void } = { now: () => {} };
    const device = defineDevice({
      label: "poison",
      size: 1 << 20,
      async read(offset, into) {
        if (offset === 0) cut.now();
        into.fill(1);
      },
    });
    open.push(await serve(path, device));
    const cuttable = await wire(path);
    cut.now = cuttable.cut;
    const remote = await client(cuttable.uri);
    await remote.read(512, Buffer.alloc(512));
    await expect(remote.read(0, Buffer.alloc(512))).rejects.toMatchObject({ code: "IO" });
    expect(cuttable.connections()).toBe(1 + QUICK.attempts);
  });

  test("when closed", async () => {
    const path = join(tempDir(), "s");
    const server = await serve(path, memoryDevice(1 << 20));
    const device = await connectNbd(server.uri("x"), { reconnect: { attempts: 50, firstDelayMs: 60_000 } });
    await server.close();
    const reading = expect(device.read(0, Buffer.alloc(512))).rejects.toMatchObject({ code: "IO" });
    await device.close();
    await reading;
  });
});

test("a server that comes back with another disk is refused", async () => {
  const path = join(tempDir(), "s");
  const first = await serve(path, memoryDevice(1 << 20));
  const device = await client(first.uri("x"), { attempts: 50, firstDelayMs: 5 });
  await first.close();
  const reading = device.read(0, Buffer.alloc(512));
  open.push(await serve(path, memoryDevice(2 << 20)));
  await expect(reading).rejects.toMatchObject({
    code: "PROTOCOL",
    message: expect.stringContaining(`its size was ${1 << 20} and is ${2 << 20}`),
  });
});

test("a server that comes back with the same disk goes on", async () => {
  const path = join(tempDir(), "s");
  const disk = memoryDevice(1 << 20);
  const first = await serve(path, disk);
  const device = await client(first.uri("x"), { attempts: 50, firstDelayMs: 5 });
  await device.write(0, Buffer.alloc(512, 1));
  await first.close();
  const writing = device.write(512, Buffer.alloc(512, 2));
  open.push(await serve(path, disk));
  await writing;
  const both = Buffer.alloc(1024);
  await device.read(0, both);
  expect(both).toEqual(Buffer.concat([Buffer.alloc(512, 1), Buffer.alloc(512, 2)]));
});
