/** The transmission phase: commands, their errors, limits, and the end of connections. */
import { existsSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { DiskError } from "#src/errors.js";
import { CMD, CMD_FLAG, NBD_ERRNO, OPT, REPLY_TYPE, STATE } from "#src/nbd/codes.js";
import { REQUEST } from "#src/nbd/layout.js";
import {
  type ClosedConnection,
  type Export,
  type NbdServer,
  type NbdServerOptions,
  serveNbd,
} from "#src/nbd/server.js";
import { tempDir } from "../support/temp-dir.js";
import { gatedDevice, sparseDevice } from "./devices.js";
import { be16, be32, RawClient, string } from "./raw-client.js";

const SIZE = 1 << 20;
const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

async function serve(
  exported: Export | BlockDevice,
  options: Partial<NbdServerOptions> = {},
): Promise<{ path: string; server: NbdServer }> {
  const path = join(tempDir(), "nbd");
  const entry = "device" in exported ? exported : { device: exported };
  const server = await serveNbd({ exports: new Map([["x", entry]]), ...options, path });
  open.push(server);
  return { path, server };
}

async function client(path: string, options?: { structured?: boolean; allocation?: boolean }): Promise<RawClient> {
  const raw = await RawClient.transmitting(path, "x", options);
  open.push(raw);
  return raw;
}

describe("commands", () => {
  test("write, read back, simple and structured", async () => {
    const { path } = await serve(memoryDevice(SIZE, { blockSize: 512 }));
    const data = Buffer.from(Array.from({ length: 1024 }, (_, i) => i & 0xff));
    const simple = await client(path, { structured: false });
    expect(await simple.outcome(CMD.WRITE, 512, 1024, { data })).toBe(0);
    simple.request(CMD.READ, 512, 1024, { cookie: 9 });
    expect(await simple.simpleReply()).toEqual({ error: 0, cookie: 9 });
    expect(await simple.read(1024)).toEqual(data);

    const structured = await client(path);
    structured.request(CMD.READ, 512, 1024, { cookie: 8 });
    const chunk = await structured.chunk();
    expect(chunk).toMatchObject({ last: true, type: REPLY_TYPE.OFFSET_DATA, cookie: 8 });
    expect(Number(chunk.payload.readBigUInt64BE())).toBe(512);
    expect(chunk.payload.subarray(8)).toEqual(data);
  });

  test("holes are told, not sent, unless the client wants one piece", async () => {
    const device = sparseDevice(SIZE);
    await device.write(64 << 10, Buffer.alloc(8192, 7));
    const { path } = await serve(device);
    const raw = await client(path);
    raw.request(CMD.READ, 0, 256 << 10);
    const chunks = [await raw.chunk(), await raw.chunk(), await raw.chunk()];
    expect(chunks.map(({ type, last }) => [type, last])).toEqual([
      [REPLY_TYPE.OFFSET_HOLE, false],
      [REPLY_TYPE.OFFSET_DATA, false],
      [REPLY_TYPE.OFFSET_HOLE, true],
    ]);
    expect(chunks[0]!.payload.readUInt32BE(8)).toBe(64 << 10);
    expect(chunks[1]!.payload.subarray(8)).toEqual(Buffer.alloc(8192, 7));

    raw.request(CMD.READ, 0, 256 << 10, { flags: CMD_FLAG.DF });
    const whole = await raw.chunk();
    expect(whole).toMatchObject({ type: REPLY_TYPE.OFFSET_DATA, last: true });
    expect(whole.payload).toHaveLength(8 + (256 << 10));
  });

  test("a map that costs as much as a read is not asked for by reads", async () => {
    const device = sparseDevice(SIZE);
    await device.write(64 << 10, Buffer.alloc(8192, 7));
    const { path } = await serve({ device, slowMap: true });
    const raw = await client(path);
    raw.request(CMD.READ, 0, 256 << 10);
    const chunk = await raw.chunk();
    expect(chunk).toMatchObject({ type: REPLY_TYPE.OFFSET_DATA, last: true });
    expect(chunk.payload).toHaveLength(8 + (256 << 10));
    raw.request(CMD.BLOCK_STATUS, 0, SIZE, { flags: CMD_FLAG.REQ_ONE });
    expect((await raw.chunk()).payload.readUInt32BE(8)).toBe(STATE.HOLE | STATE.ZERO);
  });

  test("block status is the device's map, one descriptor when one is asked for", async () => {
    const device = sparseDevice(SIZE);
    await device.write(8192, Buffer.alloc(4096, 1));
    const { path } = await serve(device);
    const raw = await client(path);
    const descriptors = async (flags: number) => {
      raw.request(CMD.BLOCK_STATUS, 0, SIZE, { flags });
      const { payload, type } = await raw.chunk();
      expect(type).toBe(REPLY_TYPE.BLOCK_STATUS);
      return Array.from({ length: (payload.length - 4) / 4 }, (_, i) => payload.readUInt32BE(4 + 4 * i));
    };
    const hole = STATE.HOLE | STATE.ZERO;
    expect(await descriptors(0)).toEqual([8192, hole, 4096, 0, SIZE - 12288, hole]);
    expect(await descriptors(CMD_FLAG.REQ_ONE)).toEqual([8192, hole]);
  });

  test("zeros: a hole where allowed, data with NO_HOLE, quickly or not at all with FAST_ZERO", async () => {
    const device = sparseDevice(SIZE);
    await device.write(0, Buffer.alloc(65536, 1));
    const { path } = await serve({ device });
    const raw = await client(path);
    const map = async () => {
      const found: boolean[] = [];
      for await (const extent of device.extents(0, 12288)) found.push(extent.data);
      return found;
    };
    expect(await raw.outcome(CMD.WRITE_ZEROES, 0, 4096)).toBe(0);
    expect(await map()).toEqual([false, true, true]);
    expect(await raw.outcome(CMD.WRITE_ZEROES, 0, 8192, { flags: CMD_FLAG.NO_HOLE })).toBe(0);
    expect(await map()).toEqual([true, true, true]);
    const bytes = Buffer.alloc(12288);
    await device.read(0, bytes);
    expect(bytes.subarray(0, 8192).every((byte) => byte === 0) && bytes[8192] === 1).toBe(true);
    expect(await raw.outcome(CMD.WRITE_ZEROES, 0, 4096, { flags: CMD_FLAG.FAST_ZERO })).toBe(NBD_ERRNO.ENOTSUP);

    const fast = await client((await serve({ device, fastZero: true })).path);
    expect(await fast.outcome(CMD.WRITE_ZEROES, 0, 4096, { flags: CMD_FLAG.FAST_ZERO })).toBe(0);
    expect(await map()).toEqual([false, true, true]);
    expect(await fast.outcome(CMD.WRITE_ZEROES, 0, 4096, { flags: CMD_FLAG.FAST_ZERO | CMD_FLAG.NO_HOLE })).toBe(
      NBD_ERRNO.ENOTSUP,
    );
  });

  test("FUA and FLUSH reach the device, CACHE reads it, TRIM discards", async () => {
    const calls: string[] = [];
    const device = defineDevice({
      label: "spy",
      size: SIZE,
      blockSize: 512,
      read: async (offset, into) => void calls.push(`read ${offset} ${into.length}`),
      write: async (offset, data) => void calls.push(`write ${offset} ${data.length}`),
      discard: async (offset, length) => void calls.push(`discard ${offset} ${length}`),
      zero: async (offset, length) => void calls.push(`zero ${offset} ${length}`),
      flush: async () => void calls.push("flush"),
    });
    const raw = await client((await serve(device)).path);
    const done = async (...args: Parameters<RawClient["request"]>) => {
      expect(await raw.outcome(...args)).toBe(0);
      return calls.splice(0);
    };
    expect(await done(CMD.WRITE, 0, 512)).toEqual(["write 0 512"]);
    expect(await done(CMD.WRITE, 0, 512, { flags: CMD_FLAG.FUA })).toEqual(["write 0 512", "flush"]);
    expect(await done(CMD.TRIM, 512, 512, { flags: CMD_FLAG.FUA })).toEqual(["discard 512 512", "flush"]);
    expect(await done(CMD.WRITE_ZEROES, 0, 512, { flags: CMD_FLAG.FUA })).toEqual(["zero 0 512", "flush"]);
    expect(await done(CMD.FLUSH, 0, 0, { flags: CMD_FLAG.FUA })).toEqual(["flush"]);
    expect(await done(CMD.CACHE, 0, 1024)).toEqual(["read 0 1024"]);
  });

  test("replies come as requests finish", async () => {
    const gate = gatedDevice(SIZE);
    const device = { ...pick(gate.device), flush: async () => {} };
    const raw = await client((await serve(device)).path, { structured: false });
    raw.request(CMD.READ, 0, 512, { cookie: 1 });
    await gate.waiting(1);
    raw.request(CMD.FLUSH, 0, 0, { cookie: 2 });
    expect((await raw.simpleReply()).cookie).toBe(2);
    gate.open();
    expect((await raw.simpleReply()).cookie).toBe(1);
  });
});

/** The device's members as a plain object, to change some. */
function pick(device: BlockDevice): BlockDevice {
  return {
    label: device.label,
    size: device.size,
    blockSize: device.blockSize,
    writable: device.writable,
    read: (offset, into) => device.read(offset, into),
    write: (offset, data) => device.write(offset, data),
    zero: (offset, length) => device.zero(offset, length),
    discard: (offset, length) => device.discard(offset, length),
    extents: (offset, length) => device.extents(offset, length),
    flush: () => device.flush(),
    close: () => device.close(),
  };
}

describe("requests that do not fit are answered, and the connection goes on", () => {
  const E = NBD_ERRNO;
  test.each<[string, number, number | bigint, number, number, number]>([
    ["a misaligned write", CMD.WRITE, 1, 512, 0, E.EINVAL],
    ["a misaligned length", CMD.WRITE, 0, 513, 0, E.EINVAL],
    ["a misaligned trim", CMD.TRIM, 256, 512, 0, E.EINVAL],
    ["a write past the end", CMD.WRITE, SIZE - 512, 1024, 0, E.ENOSPC],
    ["zeros past the end", CMD.WRITE_ZEROES, SIZE, 512, 0, E.ENOSPC],
    ["a trim past the end", CMD.TRIM, SIZE, 512, 0, E.EINVAL],
    ["a write at 2^64-512", CMD.WRITE, 0xffff_ffff_ffff_fe00n, 512, 0, E.ENOSPC],
    ["zeros at 2^53", CMD.WRITE_ZEROES, 1n << 53n, 512, 0, E.ENOSPC],
    ["an unknown command", 99, 0, 0, 0, E.EINVAL],
    ["RESIZE", 8, 0, 0, 0, E.EINVAL],
    ["an unknown flag", CMD.WRITE, 0, 512, 1 << 9, E.EINVAL],
    ["DF on a write", CMD.WRITE, 0, 512, CMD_FLAG.DF, E.EINVAL],
    ["FAST_ZERO on a trim", CMD.TRIM, 0, 512, CMD_FLAG.FAST_ZERO, E.EINVAL],
    ["a write of more than 32 MiB", CMD.WRITE, 0, (32 << 20) + 512, 0, E.ENOSPC],
  ])("%s", async (_what, type, offset, length, flags, error) => {
    const raw = await client((await serve(memoryDevice(SIZE, { blockSize: 512 }))).path);
    expect(await raw.outcome(type, offset, length, { flags })).toBe(error);
    expect(await raw.outcome(CMD.FLUSH, 0, 0)).toBe(0);
  });

  test.each<[string, number, number | bigint, number, number, number]>([
    ["past the end", CMD.READ, SIZE - 512, 1024, 0, E.EINVAL],
    ["at 2^64-512", CMD.READ, 0xffff_ffff_ffff_fe00n, 512, 0, E.EINVAL],
    ["misaligned", CMD.READ, 3, 512, 0, E.EINVAL],
    ["status past the end", CMD.BLOCK_STATUS, SIZE, 512, 0, E.EINVAL],
    ["status of nothing", CMD.BLOCK_STATUS, 0, 0, 0, E.EINVAL],
  ])("reading %s is an error chunk", async (_what, type, offset, length, flags, error) => {
    const raw = await client((await serve(memoryDevice(SIZE, { blockSize: 512 }))).path);
    raw.request(type, offset, length, { flags });
    const chunk = await raw.chunk();
    expect(chunk).toMatchObject({ type: REPLY_TYPE.ERROR, last: true });
    expect(chunk.payload.readUInt32BE()).toBe(error);
    expect(await raw.outcome(CMD.FLUSH, 0, 0)).toBe(0);
  });

  test("payload limit: EINVAL, with DF EOVERFLOW; a hopeless write ends the connection", async () => {
    const big = defineDevice({ label: "big", size: 2 ** 40, read: async () => {}, write: async () => {} });
    const { path } = await serve(big);
    const raw = await client(path);
    const length = (32 << 20) + 1;
    for (const [flags, error] of [
      [0, E.EINVAL],
      [CMD_FLAG.DF, E.EOVERFLOW],
    ] as const) {
      raw.request(CMD.READ, 0, length, { flags });
      expect((await raw.chunk()).payload.readUInt32BE()).toBe(error);
    }
    expect(await raw.outcome(CMD.WRITE, 0, length)).toBe(E.EINVAL);
    raw.request(CMD.WRITE, 0, 0xffff_ffff, { data: Buffer.alloc(16) });
    expect(await raw.end()).toHaveLength(0);
  });

  test("flags that were not negotiated", async () => {
    const { path } = await serve(memoryDevice(SIZE));
    const simple = await client(path, { structured: false });
    expect(await simple.outcome(CMD.READ, 0, 512, { flags: CMD_FLAG.DF })).toBe(E.EINVAL);
    expect(await simple.outcome(CMD.BLOCK_STATUS, 0, 512)).toBe(E.EINVAL);
    const other = await RawClient.greeted(path);
    open.push(other);
    await other.option(OPT.STRUCTURED_REPLY);
    await other.option(OPT.GO, string("x"), be16(0));
    other.request(CMD.BLOCK_STATUS, 0, 512);
    expect((await other.chunk()).payload.readUInt32BE()).toBe(E.EINVAL);
  });

  test("contexts selected for another export do not count", async () => {
    const path = join(tempDir(), "nbd");
    const exports = new Map(["a", "b"].map((name) => [name, { device: memoryDevice(SIZE) }]));
    open.push(await serveNbd({ path, exports }));
    const raw = await RawClient.greeted(path);
    open.push(raw);
    await raw.option(OPT.STRUCTURED_REPLY);
    await raw.option(OPT.SET_META_CONTEXT, string("a"), be32(1), string("base:allocation"));
    await raw.option(OPT.GO, string("b"), be16(0));
    raw.request(CMD.BLOCK_STATUS, 0, 512);
    expect((await raw.chunk()).payload.readUInt32BE()).toBe(E.EINVAL);
  });

  test.each([
    ["by its owner's word", { device: memoryDevice(SIZE), readOnly: true }],
    ["by itself", { device: memoryDevice(SIZE, { writable: false }) }],
  ])("an export that is read-only %s", async (_how, exported) => {
    const raw = await client((await serve(exported)).path);
    for (const type of [CMD.WRITE, CMD.TRIM, CMD.WRITE_ZEROES]) expect(await raw.outcome(type, 0, 512)).toBe(E.EPERM);
    raw.request(CMD.READ, 0, 512);
    expect((await raw.chunk()).type).toBe(REPLY_TYPE.OFFSET_DATA);
  });

  test("errors of the device are told by value, and to the owner in full", async () => {
    const errors: unknown[] = [];
    const fail = async () => {
      throw new DiskError("NO_SPACE", "Cannot write the pool: it is full");
    };
    const device = defineDevice({ label: "full", size: SIZE, read: fail, write: fail, flush: fail });
    const { path } = await serve(device, { onError: (error) => errors.push(error) });
    const raw = await client(path);
    expect(await raw.outcome(CMD.WRITE, 0, 512)).toBe(E.ENOSPC);
    expect(await raw.outcome(CMD.FLUSH, 0, 0)).toBe(E.ENOSPC);
    for (const length of [512, 65536]) {
      raw.request(CMD.READ, 0, length);
      const chunk = await raw.chunk();
      expect([chunk.type, chunk.payload.readUInt32BE()]).toEqual([REPLY_TYPE.ERROR, E.ENOSPC]);
    }
    expect(errors).toHaveLength(4);
  });
});

describe("limits", () => {
  test("what a greedy client can bring into the device is bounded, and all of it is answered in the end", async () => {
    const gate = gatedDevice(64 << 20);
    const limits = { bytesInFlight: 4 << 20, requestsInFlight: 100 };
    const raw = await client((await serve(gate.device, { limits })).path, { structured: false });
    const COUNT = 50;
    for (let i = 0; i < COUNT; i++) raw.request(i % 2 ? CMD.WRITE : CMD.READ, 0, 1 << 20, { cookie: i });
    await gate.waiting(4);
    await new Promise((resolve) => setTimeout(resolve, 50)); // time to do wrong
    expect(gate.inside()).toMatchObject({ requests: 4, bytes: 4 << 20 });
    gate.open();
    const cookies = new Set<number>();
    for (let i = 0; i < COUNT; i++) {
      const { error, cookie } = await raw.simpleReply();
      expect(error).toBe(0);
      if (cookie % 2 === 0) await raw.read(1 << 20);
      cookies.add(cookie);
    }
    expect(cookies.size).toBe(COUNT);
    expect(gate.inside().most).toBeLessThanOrEqual(4 << 20);
  });

  test("a client that asks and never reads stops being served, others go on", async () => {
    let served = 0;
    const device = defineDevice({ label: "counting", size: 64 << 20, read: async () => void served++ });
    const { path } = await serve(device, { limits: { bytesInFlight: 2 << 20 } });
    const greedy = await client(path, { structured: false });
    greedy.socket.pause();
    for (let i = 0; i < 200; i++) greedy.request(CMD.READ, 0, 1 << 20);
    const other = await client(path);
    for (let i = 0; i < 20; i++) {
      other.request(CMD.READ, 0, 512);
      await other.chunk();
    }
    expect(served - 20).toBeLessThan(20);
  });

  test("requests without payload are bounded by number", async () => {
    let inside = 0;
    let most = 0;
    const device = defineDevice({
      label: "slow flush",
      size: SIZE,
      read: async () => {},
      async flush() {
        most = Math.max(most, ++inside);
        await new Promise((resolve) => setImmediate(resolve));
        inside--;
      },
    });
    const raw = await client((await serve(device, { limits: { requestsInFlight: 8 } })).path);
    for (let i = 0; i < 500; i++) raw.request(CMD.FLUSH, 0, 0);
    for (let i = 0; i < 500; i++) expect((await raw.simpleReply()).error).toBe(0);
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(8);
  });

  test("more connections than allowed are turned away", async () => {
    const { path } = await serve(memoryDevice(SIZE), { limits: { connections: 2 } });
    const first = await client(path);
    await client(path);
    const third = await RawClient.connect(path);
    expect(await third.end()).toHaveLength(0);
    await first.close();
    await expect
      .poll(async () => (await RawClient.greeted(path).catch(() => undefined))?.close().then(() => true))
      .toBe(true);
  });
});

describe("the end of a connection", () => {
  test("DISC lets requests in flight finish", async () => {
    const gate = gatedDevice(SIZE);
    const raw = await client((await serve(gate.device)).path, { structured: false });
    raw.request(CMD.WRITE, 0, 512, { cookie: 3 });
    raw.request(CMD.DISC, 0, 0);
    await gate.waiting(1);
    gate.open();
    expect(await raw.simpleReply()).toEqual({ error: 0, cookie: 3 });
    expect(await raw.end()).toHaveLength(0);
  });

  test("a client that ends its half still gets its replies", async () => {
    const gate = gatedDevice(SIZE);
    const raw = await client((await serve(gate.device)).path, { structured: false });
    raw.request(CMD.WRITE, 0, 512, { cookie: 3 });
    raw.socket.end();
    await gate.waiting(1);
    gate.open();
    expect(await raw.simpleReply()).toEqual({ error: 0, cookie: 3 });
  });

  test("is told to the owner once nothing is in the device any more, with what the client did", async () => {
    const closed: ClosedConnection[] = [];
    const gate = gatedDevice(SIZE);
    const { path, server } = await serve(gate.device, { onConnectionClosed: (connection) => closed.push(connection) });
    const writer = await client(path);
    expect(server.connectionCount()).toBe(1);
    expect(server.connectionCount("x")).toBe(1);
    expect(server.connectionCount("y")).toBe(0);
    writer.request(CMD.WRITE, 0, 512);
    await gate.waiting(1);
    writer.socket.destroy();
    await writer.end();
    const reader = await client(path);
    await reader.close();
    await expect.poll(() => closed).toEqual([{ exportName: "x", wrote: false }]);
    expect(server.connectionCount("x")).toBe(1);
    gate.open();
    await expect.poll(() => closed.at(-1)).toEqual({ exportName: "x", wrote: true });
    expect(server.connectionCount()).toBe(0);
    const undecided = await RawClient.greeted(path);
    await undecided.close();
    await expect.poll(() => closed.at(-1)).toEqual({ exportName: undefined, wrote: false });
  });

  test("closing the server answers what is in flight, then ends all connections", async () => {
    const gate = gatedDevice(SIZE);
    const { path, server } = await serve(gate.device);
    const raw = await client(path, { structured: false });
    const idle = await RawClient.greeted(path);
    raw.request(CMD.WRITE, 0, 512, { cookie: 4 });
    await gate.waiting(1);
    let closed = false;
    const closing = server.close().then(() => (closed = true));
    await idle.end();
    expect(closed).toBe(false);
    gate.open();
    expect(await raw.simpleReply()).toEqual({ error: 0, cookie: 4 });
    await raw.end();
    await closing;
    expect(existsSync(path)).toBe(false);
    await server.close();
  });

  test("closing the server does not wait for a client that takes no replies", async () => {
    const device = defineDevice({ label: "d", size: 64 << 20, read: async () => {} });
    const { path, server } = await serve(device, { limits: { closeTimeoutMs: 100 } });
    const raw = await client(path, { structured: false });
    raw.socket.pause();
    for (let i = 0; i < 8; i++) raw.request(CMD.READ, 0, 4 << 20);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await server.close();
    expect(server.connectionCount()).toBe(0);
  });

  test("a wrong magic ends that connection, at once and only that", async () => {
    const { path } = await serve(memoryDevice(SIZE));
    const other = await client(path);
    const raw = await client(path);
    raw.write(Buffer.alloc(REQUEST.size, 0x11));
    expect(await raw.end()).toHaveLength(0);
    expect(await other.outcome(CMD.FLUSH, 0, 0)).toBe(0);
  });
});

describe("listening", () => {
  const exports = new Map([["x", { device: memoryDevice(512) }]]);

  test("the socket is its owner's only, and goes with the server", async () => {
    const { path, server } = await serve(memoryDevice(512));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(server.uri("a/b c")).toBe(`nbd+unix:///a/b%20c?socket=${path}`);
    await server.close();
    expect(existsSync(path)).toBe(false);
  });

  test("a live server's socket is left alone, a dead one's is replaced, other files are kept", async () => {
    const { path } = await serve(memoryDevice(512));
    await expect(serveNbd({ path, exports })).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("another server answers there"),
    });
    expect(existsSync(path)).toBe(true);

    const stale = join(tempDir(), "stale");
    await leaveStaleSocket(stale);
    const server = await serveNbd({ path: stale, exports });
    open.push(server);
    await (await RawClient.greeted(stale)).close();

    const file = join(tempDir(), "file");
    writeFileSync(file, "precious");
    await expect(serveNbd({ path: file, exports })).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("is no socket"),
    });
    expect(existsSync(file)).toBe(true);
  });

  test("a path that the system would cut off is refused with its length", async () => {
    const path = join(tempDir(), "p".repeat(120));
    await expect(serveNbd({ path, exports })).rejects.toThrow(/the path has \d+ bytes, allowed 1\.\.107/);
  });

  test("TCP, on loopback and a free port unless told otherwise", async () => {
    const server = await serveNbd({ port: 0, exports });
    open.push(server);
    expect(server.port).toBeGreaterThan(0);
    expect(server.uri()).toBe(`nbd://127.0.0.1:${server.port}/`);
    await expect(serveNbd({ port: server.port!, exports })).rejects.toMatchObject({ code: "DENIED" });
  });
});

/** A socket's file whose server is gone without having removed it. */
async function leaveStaleSocket(path: string): Promise<void> {
  const { renameSync } = await import("node:fs");
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(`${path}.live`, resolve));
  renameSync(`${path}.live`, path); // so that closing does not find it
  await new Promise((resolve) => server.close(resolve));
}
