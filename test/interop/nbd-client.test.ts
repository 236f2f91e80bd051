/** Our client on other projects' servers: qemu-nbd and nbdkit, with structured replies and without, with errors. */
import { readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { connectNbd, type NbdClientOptions } from "#src/nbd/client.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { type PeerServer, peerServer, tool } from "./nbd-support.js";

const SIZE = 16 << 20;
const servers: PeerServer[] = [];
const clients: BlockDevice[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
  for (const server of servers.splice(0)) await server.stop();
});

async function on(
  options: NbdClientOptions,
  exportName: string,
  program: string,
  ...args: string[]
): Promise<BlockDevice> {
  const socket = join(tempDir(), "peer");
  servers.push(await peerServer(socket, program, ...args.map((arg) => arg.replace("SOCKET", socket))));
  const client = await connectNbd(`nbd+unix:///${exportName}?socket=${socket}`, options);
  clients.push(client);
  return client;
}

async function map(device: BlockDevice): Promise<[number, number, boolean][]> {
  const found: [number, number, boolean][] = [];
  for await (const { offset, length, zero } of device.extents(0, device.size)) found.push([offset, length, zero]);
  return found;
}

/** Writes and reads at the edges and in the large; the disk is zeros at first. */
async function exercise(device: BlockDevice): Promise<Buffer> {
  const model = Buffer.alloc(device.size);
  const { blockSize } = device;
  const places = [
    [0, blockSize],
    [device.size - blockSize, blockSize],
    [4096, 3 << 20],
    [(8 << 20) - blockSize, 2 * blockSize],
  ] as const;
  for (const [offset, length] of places) {
    const data = Buffer.alloc(length, `written at ${offset} `);
    data.copy(model, offset);
    await device.write(offset, data);
  }
  await device.zero(1 << 20, 1 << 20);
  model.fill(0, 1 << 20, 2 << 20);
  await device.flush();
  const back = Buffer.alloc(device.size, 0xee);
  await device.read(0, back);
  expect(back.equals(model)).toBe(true);
  return model;
}

describe.skipIf(!havePeer("qemu-nbd", "qemu-img"))("qemu-nbd", () => {
  const file = (name: string) => {
    const path = join(tempDir(), name);
    writeFileSync(path, "");
    truncateSync(path, SIZE);
    return path;
  };

  test("raw file: what we write is in the file, over several connections", async () => {
    const path = file("disk.img");
    const client = await on(
      { connections: 3 },
      "x",
      "qemu-nbd",
      "-k",
      "SOCKET",
      "-t",
      "-e",
      "4",
      "-x",
      "x",
      "-f",
      "raw",
      "--discard=unmap",
      path,
    );
    expect(client).toMatchObject({ size: SIZE, writable: true });
    const model = await exercise(client);
    expect(readFileSync(path).equals(model)).toBe(true);
    expect((await map(client)).some(([, , zero]) => zero)).toBe(true);
    await client.discard(0, 1 << 20);
  });

  test("qcow2: the map is the image's", async () => {
    const path = join(tempDir(), "disk.qcow2");
    await tool("qemu-img", "create", "-f", "qcow2", path, String(SIZE));
    const client = await on({}, "", "qemu-nbd", "-k", "SOCKET", "-t", "-f", "qcow2", path);
    await client.write(1 << 20, Buffer.alloc(65536, 1));
    expect(await map(client)).toEqual([
      [0, 1 << 20, true],
      [1 << 20, 65536, false],
      [(1 << 20) + 65536, SIZE - (1 << 20) - 65536, true],
    ]);
  });

  test("read-only, and an unknown export", async () => {
    const client = await on(
      {},
      "x",
      "qemu-nbd",
      "-k",
      "SOCKET",
      "-t",
      "-e",
      "2",
      "-r",
      "-x",
      "x",
      "-f",
      "raw",
      file("disk.img"),
    );
    expect(client.writable).toBe(false);
    await expect(connectNbd(client.label.replace("///x?", "///y?"))).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});

describe.skipIf(!havePeer("nbdkit"))("nbdkit", () => {
  test.each([
    ["as it is", []],
    ["without structured replies", ["--no-sr"]],
    ["with the plain handshake of newstyle, not fixed", ["--mask-handshake=0"]],
    ["with blocks of 4096 bytes", ["--filter=blocksize-policy"]],
  ])("memory %s", async (how, args) => {
    const policy = how.includes("4096") ? ["blocksize-minimum=4096", "blocksize-error-policy=error"] : [];
    const client = await on({}, "", "nbdkit", "-f", "-U", "SOCKET", ...args, "memory", String(SIZE), ...policy);
    expect(client).toMatchObject({
      size: SIZE,
      blockSize: policy.length > 0 ? 4096 : expect.any(Number),
      writable: true,
    });
    await exercise(client);
  });

  test("the map of a sparse memory", async () => {
    const client = await on({}, "", "nbdkit", "-f", "-U", "SOCKET", "memory", "4G");
    await client.write(1 << 30, Buffer.alloc(65536, 1));
    const runs = await map(client);
    expect(runs.filter(([, , zero]) => !zero)).toEqual([[1 << 30, 65536, false]]);
    expect(runs.reduce((sum, [, length]) => sum + length, 0)).toBe(4 * 2 ** 30);
  });

  test.each([
    ["ENOSPC", "pwrite", "NO_SPACE", (device: BlockDevice) => device.write(0, Buffer.alloc(4096))],
    ["EIO", "pread", "IO", (device: BlockDevice) => device.read(0, Buffer.alloc(4096))],
    ["EPERM", "trim", "DENIED", (device: BlockDevice) => device.discard(0, 4096)],
    ["EIO", "zero", "IO", (device: BlockDevice) => device.zero(0, 4096)],
    ["EIO", "extents", "IO", (device: BlockDevice) => map(device)],
  ])("answers %s to %s, and the connection goes on", async (errno, operation, code, run) => {
    const client = await on(
      {},
      "",
      "nbdkit",
      "-f",
      "-U",
      "SOCKET",
      "--filter=error",
      "memory",
      String(SIZE),
      `error=${errno}`,
      `error-${operation}-rate=100%`,
    );
    await expect(run(client)).rejects.toMatchObject({ code, message: expect.stringContaining(errno) });
    await client.flush();
  });

  test("a server that is killed is an IO error that names it", async () => {
    const client = await on(
      {},
      "",
      "nbdkit",
      "-f",
      "-U",
      "SOCKET",
      "--filter=delay",
      "memory",
      String(SIZE),
      "rdelay=10",
    );
    const waiting = expect(client.read(0, Buffer.alloc(4096))).rejects.toMatchObject({
      code: "IO",
      message: expect.stringContaining(client.label),
    });
    await servers[0]!.stop("SIGKILL");
    await waiting;
  });

  test("a server that is killed and started again goes on with what was asked, if it is the same disk", async () => {
    const disk = join(tempDir(), "disk.img");
    writeFileSync(disk, Buffer.alloc(SIZE));
    const socket = join(tempDir(), "peer");
    const start = () =>
      peerServer(socket, "nbdkit", "-f", "-U", socket, "--filter=delay", "file", disk, "wdelay=200ms");
    servers.push(await start());
    const client = await connectNbd(`nbd+unix:///?socket=${socket}`, {
      reconnect: { attempts: 200, firstDelayMs: 20 },
    });
    clients.push(client);
    const writes = [0, 1, 2].map((i) => client.write(i * 65536, Buffer.alloc(65536, 0x10 + i)));
    await servers[0]!.stop("SIGKILL");
    rmSync(socket);
    servers.push(await start());
    await Promise.all(writes);
    await client.flush();
    for (const i of [0, 1, 2])
      expect(readFileSync(disk).subarray(i * 65536, (i + 1) * 65536)).toEqual(Buffer.alloc(65536, 0x10 + i));
  });
});
