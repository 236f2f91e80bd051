/** A server whose thread looks at its clients by itself, beside the event loop: each request is taken once, by either. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { connectNbd } from "#src/nbd/client.js";
import { CMD } from "#src/nbd/codes.js";
import { serveNbd } from "#src/nbd/server.js";
import { streamIo } from "#src/os/stream-io.js";
import { tempDir } from "../support/temp-dir.js";
import { RawClient } from "./raw-client.js";

const SIZE = 4 << 20;
const open: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

async function serve() {
  const device = memoryDevice(SIZE);
  const path = join(tempDir(), "nbd");
  const server = await serveNbd({ exports: new Map([["x", { device }]]), path });
  open.push(server);
  return { device, server, path };
}

describe.skipIf(!streamIo())("a server that is asked to take requests", () => {
  test("serves reads and writes of several clients, large and small, in any mixture", async () => {
    const { server, device } = await serve();
    let looking = true;
    const look = () => {
      server.takeRequests();
      if (looking) setImmediate(look);
    };
    look();
    const clients = await Promise.all([1, 2, 3].map(() => connectNbd(server.uri("x"))));
    open.push(...clients);
    const model = randomBytes(SIZE);
    const lengths = [512, 4096, 70_144, 512 << 10];
    const writes: Promise<void>[] = [];
    for (let at = 0, i = 0; at < SIZE; i++) {
      const length = Math.min(lengths[i % lengths.length]!, SIZE - at);
      writes.push(clients[i % 3]!.write(at, model.subarray(at, at + length)));
      at += length;
    }
    await Promise.all(writes);
    const back = Buffer.alloc(SIZE);
    await Promise.all(
      Array.from({ length: 64 }, (_, i) => clients[i % 3]!.read(i * 65536, back.subarray(i * 65536, (i + 1) * 65536))),
    );
    expect(back.equals(model)).toBe(true);
    await device.read(0, back);
    expect(back.equals(model)).toBe(true);
    looking = false;
  });

  test("takes what waits in the socket, and nothing from a client that has gone or is still shaking hands", async () => {
    const { server, path } = await serve();
    const greeted = await RawClient.greeted(path);
    const raw = await RawClient.transmitting(path, "x", { structured: false });
    expect(server.takeRequests()).toBe(0);
    raw.request(CMD.READ, 0, 512); // written at once; the event loop, which has not turned, knows nothing of it
    expect(server.takeRequests()).toBe(1);
    expect((await raw.simpleReply()).error).toBe(0);
    raw.socket.destroy();
    greeted.socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(server.takeRequests()).toBe(0);
  });
});
