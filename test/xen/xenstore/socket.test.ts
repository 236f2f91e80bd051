/** The store on a unix socket: who may connect, what is replaced, and clients that misbehave. */
import { once } from "node:events";
import { existsSync, renameSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { connectXenstoreSocket, serveXenstoreSocket } from "#src/xen/platform/xenstore-socket.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { encodeMessage, joinStrings, MESSAGE_TYPES, MessageParser, SOCKMSG } from "#src/xen/xenstore/wire.js";
import { tempDir } from "../../support/temp-dir.js";

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

async function serve(path = join(tempDir(), "socket"), xenstored = new Xenstored()) {
  const served = await serveXenstoreSocket(xenstored, path);
  open.push(served);
  return { path, xenstored, served };
}

async function client(path: string): Promise<XenstoreClient> {
  const store = new XenstoreClient(await connectXenstoreSocket(path));
  open.push(store);
  return store;
}

async function raw(path: string): Promise<Socket> {
  const socket = connect({ path });
  socket.on("error", () => {});
  open.push({ close: () => socket.destroy() });
  await once(socket, "connect");
  return socket;
}

const request = (type: number, ...strings: string[]) =>
  encodeMessage({ type, reqId: 1, txId: 0, payload: joinStrings(strings) });

test("a client on the socket is Dom0; only the owner may connect; nothing stays behind", async () => {
  const { path, served } = await serve();
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const store = await client(path);
  await store.write("/a/b", "1");
  expect(await store.read("/a/b")).toBe("1");
  expect(await store.isDomainIntroduced(0)).toBe(true);
  await served.close();
  await served.close();
  expect(existsSync(path)).toBe(false);
  await expect(store.read("/a/b")).rejects.toMatchObject({ code: "IO" });
  await expect(connectXenstoreSocket(path)).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("a socket that answers is left alone, a stale one is replaced, another file is refused", async () => {
  const { path } = await serve();
  await expect(serveXenstoreSocket(new Xenstored(), path)).rejects.toMatchObject({ code: "DENIED" });
  expect(await (await client(path)).directory("/")).toEqual([]);

  const stale = join(tempDir(), "stale");
  // Renamed, so that closing the listener leaves the file, as a killed process does.
  const dead = createServer().listen(stale);
  await once(dead, "listening");
  const moved = join(tempDir(), "socket");
  renameSync(stale, moved);
  await new Promise((resolve) => dead.close(resolve));
  expect(existsSync(moved)).toBe(true);
  await serve(moved);
  expect(await (await client(moved)).directory("/")).toEqual([]);

  const file = join(tempDir(), "file");
  writeFileSync(file, "precious");
  await expect(serveXenstoreSocket(new Xenstored(), file)).rejects.toMatchObject({ code: "DENIED" });
  expect(statSync(file).size).toBe(8);
});

test("a path that does not fit into a socket's address is refused by its length", async () => {
  const folder = tempDir();
  const fitting = join(folder, "s".repeat(107 - folder.length - 1));
  await serve(fitting);
  for (const operation of [(path: string) => serveXenstoreSocket(new Xenstored(), path), connectXenstoreSocket])
    await expect(operation(`${fitting}x`)).rejects.toThrow(/its path has 108 bytes, allowed 107/);
});

test("a client that announces too much is cut off, the others are not", async () => {
  const { path } = await serve();
  const good = await client(path);
  const bad = await raw(path);
  bad.resume();
  bad.write(SOCKMSG.encode({ type: 2, reqId: 1, txId: 0, len: 0xffffffff }));
  await once(bad, "close");
  await good.write("/a", "1");
  expect(await good.read("/a")).toBe("1");
});

test("a client that sends and never reads stops being read; others go on, and it gets all its replies later", async () => {
  const { path, xenstored } = await serve();
  const good = await client(path);
  await good.write("/big", "v".repeat(4000));
  const greedy = await raw(path);
  greedy.pause();
  const count = 2000; // 8 MB of replies: more than the sockets hold
  for (let i = 0; i < count; i++) greedy.write(request(MESSAGE_TYPES.READ, "/big"));
  for (let i = 0; i < 20; i++) await good.write("/a", String(i));
  expect(xenstored.store.tree.inconsistencies()).toEqual([]);
  const parser = new MessageParser();
  let replies = 0;
  await new Promise<void>((resolve) => {
    greedy.on("data", (bytes) => {
      parser.push(bytes);
      for (; parser.next(); replies++);
      if (replies === count) resolve();
    });
    greedy.resume();
  });
  expect(replies).toBe(count);
});

test("clients that vanish leave no watch and no transaction", async () => {
  const { path, served } = await serve();
  for (let i = 0; i < 20; i++) {
    const store = await client(path);
    await store.watch("/w", "t", () => {});
    void store.transaction((tx) => store.read("/none", tx)).catch(() => {});
    store.close();
  }
  const store = await client(path);
  await store.write("/w/x", "1");
  while (served.clients > 1) await new Promise((resolve) => setImmediate(resolve));
  expect(served.clients).toBe(1);
});

test("connecting where nobody listens", async () => {
  await expect(connectXenstoreSocket(join(tempDir(), "none"))).rejects.toMatchObject({ code: "NOT_FOUND" });
});
