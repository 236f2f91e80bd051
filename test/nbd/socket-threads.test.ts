/** Exports that are windows of files: the same protocol, with the sockets driven by threads. */
import { existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { openFileDevice } from "#src/block/file.js";
import { memoryDevice } from "#src/block/memory.js";
import { slice } from "#src/block/slice.js";
import { connectNbd } from "#src/nbd/client.js";
import { CMD, CMD_FLAG, NBD_ERRNO, OPT, REPLY_TYPE } from "#src/nbd/codes.js";
import { fileWindow } from "#src/nbd/file-window.js";
import { type ClosedConnection, type Export, type NbdServerOptions, serveNbd } from "#src/nbd/server.js";
import { streamIo } from "#src/os/stream-io.js";
import { tempDir } from "../support/temp-dir.js";
import { collect } from "./devices.js";
import { be16, RawClient, string } from "./raw-client.js";

const SIZE = 8 << 20;
const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

async function file(): Promise<{ path: string; device: BlockDevice }> {
  const path = join(tempDir(), "disk.dsk");
  writeFileSync(path, "");
  truncateSync(path, SIZE);
  const device = await openFileDevice(path, { writable: true });
  open.push(device);
  return { path, device };
}

async function serve(exported: Export, options: Partial<NbdServerOptions> = {}) {
  const path = join(tempDir(), "nbd");
  const server = await serveNbd({ exports: new Map([["x", exported]]), ...options, path });
  open.push(server);
  return { path, server };
}

describe("which exports a thread can serve", () => {
  test("a file, and a part of one; not memory, and nothing that counts its writes", async () => {
    const { device, path } = await file();
    expect(await fileWindow({ device })).toMatchObject({ path, offset: 0, size: SIZE, writable: true });
    const part = slice(device, 1 << 20, 2 << 20);
    expect(await fileWindow({ device: part, readOnly: true })).toMatchObject({
      offset: 1 << 20,
      size: 2 << 20,
      writable: false,
    });
    expect(await fileWindow({ device: memoryDevice(SIZE) })).toBeNull();
    const dirtyBitmap = { name: "b", async *runs() {} };
    expect(await fileWindow({ device, dirtyBitmap })).toBeNull();
  });
});

describe.skipIf(!streamIo())("a client of a file", () => {
  test("reads back what it wrote, in the large and over several connections; the file has it", async () => {
    const { device, path } = await file();
    const { server } = await serve({ device: slice(device, 4096, 6 << 20), fastZero: true });
    const client = await connectNbd(server.uri("x"), { connections: 4 });
    open.push(client);
    expect(server.connectionCount("x")).toBe(4);
    const data = Buffer.alloc((3 << 20) + 512, "no power of two ");
    await client.write(512, data);
    await client.zero(1 << 20, 1 << 20);
    data.fill(0, (1 << 20) - 512, (2 << 20) - 512);
    await client.flush();
    const back = Buffer.alloc(data.length);
    await client.read(512, back);
    expect(back.equals(data)).toBe(true);
    expect(
      readFileSync(path)
        .subarray(4608, 4608 + data.length)
        .equals(data),
    ).toBe(true);
    const extents = await collect(client);
    expect(extents.some(({ offset, zero }) => offset === 1 << 20 && zero)).toBe(true);
    expect(extents.reduce((sum, { length }) => sum + length, 0)).toBe(6 << 20);
  });

  test("gets replies to requests that came with the end of its handshake, and to those before its own end", async () => {
    const { device } = await file();
    await device.write(512, Buffer.alloc(512, 7));
    const { path } = await serve({ device });
    const raw = await RawClient.greeted(path);
    const go = Buffer.concat([string("x"), be16(0)]);
    const option = Buffer.alloc(16);
    option.writeBigUInt64BE(0x49484156454f5054n, 0);
    option.writeUInt32BE(OPT.GO, 8);
    option.writeUInt32BE(go.length, 12);
    raw.write(option, go);
    raw.request(CMD.READ, 512, 512, { cookie: 5 });
    raw.socket.end();
    const all = await raw.end();
    expect(all.subarray(-528, -512).toString("hex")).toBe(`6744669800000000${"05".repeat(8)}`);
    expect(all.subarray(-512)).toEqual(Buffer.alloc(512, 7));
  });

  test("is refused what does not fit, by the same rules", async () => {
    const { device } = await file();
    const { path } = await serve({ device, readOnly: true });
    const raw = await RawClient.transmitting(path, "x");
    open.push(raw);
    expect(await raw.outcome(CMD.WRITE, 0, 512)).toBe(NBD_ERRNO.EPERM);
    raw.request(CMD.READ, SIZE, 512);
    expect((await raw.chunk()).payload.readUInt32BE()).toBe(NBD_ERRNO.EINVAL);
    raw.request(CMD.READ, 0, 4096, { flags: CMD_FLAG.DF });
    expect(await raw.chunk()).toMatchObject({ type: REPLY_TYPE.OFFSET_DATA, last: true });
    raw.write(Buffer.alloc(28, 0x41));
    expect(await raw.end()).toHaveLength(0);
    const other = await RawClient.transmitting(path, "x"); // and nobody else is harmed
    open.push(other);
    expect(await other.outcome(CMD.FLUSH, 0, 0)).toBe(0);
  });

  test("is told an error for what a file that was cut under the server has lost, short or long, and the rest of its bytes", async () => {
    const { device, path: disk } = await file();
    await device.write(0, Buffer.alloc(SIZE, 9));
    const { path } = await serve({ device, readOnly: true });
    const raw = await RawClient.transmitting(path, "x");
    open.push(raw);
    truncateSync(disk, SIZE / 2 + 512);
    for (const length of [4096, 128 << 10]) {
      raw.request(CMD.READ, SIZE / 2, length);
      expect((await raw.chunk()).payload.readUInt32BE()).toBe(NBD_ERRNO.EIO);
      raw.request(CMD.READ, SIZE / 2 - length, length);
      const { type, payload } = await raw.chunk();
      expect(type).toBe(REPLY_TYPE.OFFSET_DATA);
      expect(payload.subarray(8).equals(Buffer.alloc(length, 9))).toBe(true);
    }
  });

  test("that does not read its replies stops being served; others go on, and the server can close", async () => {
    const { device } = await file();
    const { path, server } = await serve(
      { device },
      { limits: { bytesInFlight: 2 << 20, closeTimeoutMs: 50, handshakeTimeoutMs: 5000 } },
    );
    const greedy = await RawClient.transmitting(path, "x", { structured: false });
    greedy.socket.pause();
    for (let i = 0; i < 100; i++) greedy.request(CMD.READ, 0, 1 << 20);
    const other = await RawClient.transmitting(path, "x");
    for (let i = 0; i < 20; i++) {
      other.request(CMD.READ, 0, 512);
      await other.chunk();
    }
    await server.close();
    expect(existsSync(path)).toBe(false);
    greedy.socket.destroy();
    await other.end();
  });

  test("has what it asked answered when the server closes, and the owner hears who wrote", async () => {
    const { device, path: disk } = await file();
    const closed: ClosedConnection[] = [];
    const { path, server } = await serve({ device }, { onConnectionClosed: (connection) => closed.push(connection) });
    const writer = await RawClient.transmitting(path, "x");
    const reader = await RawClient.transmitting(path, "x");
    expect(await writer.outcome(CMD.WRITE, 0, 512, { data: Buffer.alloc(512, 3), flags: CMD_FLAG.FUA })).toBe(0);
    reader.request(CMD.READ, 0, 512);
    await reader.chunk();
    await server.close();
    await Promise.all([writer.end(), reader.end()]);
    expect(closed.map(({ wrote }) => wrote).sort()).toEqual([false, true]);
    expect(readFileSync(disk).subarray(0, 512)).toEqual(Buffer.alloc(512, 3));
  });
});
