/** STARTTLS with pre-shared keys, which need no tool to make; certificates are in test/interop. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { connectNbd } from "#src/nbd/client.js";
import { OPT, REP } from "#src/nbd/codes.js";
import { OPTION } from "#src/nbd/layout.js";
import { type Export, type NbdServer, readServerCredentials, type ServerTls, serveNbd } from "#src/nbd/server.js";
import { tempDir } from "../support/temp-dir.js";
import { be16, be32, RawClient, string } from "./raw-client.js";

const KEY = "0123456789abcdef0123456789abcdef";
const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

interface Place {
  readonly dir: string;
  readonly path: string;
  readonly server: NbdServer;
  uri(user?: string, name?: string): string;
}

async function serve(tls: Partial<ServerTls> = {}, keys = `# keys\nalice:${KEY}\r\nbob:00ff\n`): Promise<Place> {
  const dir = tempDir();
  writeFileSync(join(dir, "keys.psk"), keys);
  const path = join(dir, "s");
  const exports = new Map<string, Export>([
    ["open", { device: memoryDevice(1 << 20) }],
    ["secret", { device: memoryDevice(1 << 20), requireTls: true }],
  ]);
  const server = await serveNbd({
    path,
    exports,
    tls: { credentials: readServerCredentials(dir), ...tls },
    limits: { handshakeTimeoutMs: 2000 },
  });
  open.push(server);
  const uri = (user = "alice", name = "secret") =>
    `nbds+unix://${user}@/${name}?socket=${path}&tls-psk-file=${dir}/keys.psk`;
  return { dir, path, server, uri };
}

async function greeted(path: string): Promise<RawClient> {
  const raw = await RawClient.greeted(path);
  open.push(raw);
  return raw;
}

const types = (replies: readonly { type: number }[]) => replies.map(({ type }) => type);

describe("a client with a key", () => {
  test("reads and writes over several encrypted connections, and its URI comes back", async () => {
    const { uri } = await serve();
    const client = await connectNbd(uri(), { connections: 3 });
    open.push(client);
    expect(client.label).toBe(uri());
    const data = Buffer.alloc(1 << 20, "no power of two in here ");
    await client.write(0, data);
    const back = Buffer.alloc(data.length);
    await client.read(0, back);
    expect(back.equals(data)).toBe(true);
  });

  test("that is wrong, or of nobody, is refused", async () => {
    const { path, dir, uri } = await serve();
    writeFileSync(join(dir, "wrong.psk"), `alice:${KEY.replace("0", "1")}\ncarol:${KEY}\n`);
    for (const user of ["alice", "carol"])
      await expect(
        connectNbd(`nbds+unix://${user}@/secret?socket=${path}&tls-psk-file=${dir}/wrong.psk`),
      ).rejects.toMatchObject({ code: expect.stringMatching(/DENIED|IO/) });
    await expect(connectNbd(uri("dave"))).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("has no key for dave"),
    });
    await expect(connectNbd(uri().replace("keys.psk", "none.psk"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    open.push(await connectNbd(uri("bob"))); // and others still come in
  });
});

describe("without TLS", () => {
  test("a server that requires it answers everything else with ERR_TLS_REQD", async () => {
    const { path, server } = await serve();
    const raw = await greeted(path);
    const context = [string("open"), be32(0)];
    for (const [option, ...data] of [
      [OPT.LIST],
      [OPT.STRUCTURED_REPLY],
      [OPT.EXTENDED_HEADERS],
      [OPT.INFO, string("open"), be16(0)],
      [OPT.GO, string("open"), be16(0)],
      [OPT.LIST_META_CONTEXT, ...context],
      [OPT.SET_META_CONTEXT, ...context],
      [77],
    ] as [number, ...Buffer[]][])
      expect(types(await raw.option(option, ...data))).toEqual([REP.ERR_TLS_REQD]);
    raw.write(OPTION.encode({ option: OPT.EXPORT_NAME, length: 4 }), Buffer.from("open"));
    expect(await raw.end()).toHaveLength(0);
    await expect(connectNbd(`nbd+unix:///open?socket=${path}`)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringMatching(/ERR_TLS_REQD.*nbds:/),
    });
    expect(server.uri("open")).toMatch(/^nbds\+unix:/);
  });

  test("where it is a choice, exports that demand it are neither listed nor opened", async () => {
    const { path, uri } = await serve({ required: false });
    const raw = await greeted(path);
    const listed = await raw.option(OPT.LIST);
    expect(listed.map(({ data }) => data.subarray(4).toString())).toEqual(["open", ""]);
    expect(types(await raw.option(OPT.GO, string("secret"), be16(0)))).toEqual([REP.ERR_TLS_REQD]);
    expect(types(await raw.option(OPT.GO, string("open"), be16(0))).at(-1)).toBe(REP.ACK);
    open.push(await connectNbd(uri()), await connectNbd(`nbd+unix:///open?socket=${path}`));
  });

  test("a server that has none says so", async () => {
    const path = join(tempDir(), "s");
    open.push(await serveNbd({ path, exports: new Map([["x", { device: memoryDevice(512) }]]) }));
    const keys = join(tempDir(), "keys.psk");
    writeFileSync(keys, `alice:${KEY}\n`);
    await expect(connectNbd(`nbds+unix://alice@/x?socket=${path}&tls-psk-file=${keys}`)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("has no TLS (ERR_UNSUP)"),
    });
  });
});

describe("STARTTLS", () => {
  async function encrypted(raw: RawClient): Promise<RawClient> {
    expect(types(await raw.option(OPT.STARTTLS))).toEqual([REP.ACK]);
    const stream = connectTls({
      socket: raw.socket.removeAllListeners("data"),
      ciphers: "PSK",
      checkServerIdentity: () => undefined,
      pskCallback: () => ({ psk: Buffer.from(KEY, "hex"), identity: "alice" }),
    });
    await new Promise((resolve, reject) => stream.once("secureConnect", resolve as () => void).once("error", reject));
    const inner = RawClient.on(stream);
    open.push(inner);
    return inner;
  }

  test("forgets all that was agreed on in the clear", async () => {
    const { path } = await serve({ required: false });
    const raw = await greeted(path);
    await raw.option(OPT.STRUCTURED_REPLY);
    await raw.option(OPT.SET_META_CONTEXT, string("open"), be32(1), string("base:allocation"));
    const inner = await encrypted(raw);
    const query = [string("open"), be32(1), string("base:allocation")];
    expect(types(await inner.option(OPT.SET_META_CONTEXT, ...query))).toEqual([REP.ERR_INVALID]);
    expect(types(await inner.option(OPT.STARTTLS))).toEqual([REP.ERR_INVALID]);
    expect(types(await inner.option(OPT.LIST))).toEqual([REP.SERVER, REP.SERVER, REP.ACK]);
    expect(types(await inner.option(OPT.GO, string("secret"), be16(0))).at(-1)).toBe(REP.ACK);
  });

  test("takes no bytes that were sent in the clear behind it", async () => {
    const { path } = await serve({ required: false });
    const raw = await greeted(path);
    raw.write(OPTION.encode({ option: OPT.STARTTLS, length: 0 }), OPTION.encode({ option: OPT.LIST, length: 0 }));
    expect(await raw.end()).toHaveLength(0);
  });

  test("followed by noise, or by nothing, ends that connection and no other", async () => {
    const { path, uri } = await serve();
    const other = await connectNbd(uri());
    open.push(other);
    for (const noise of [Buffer.alloc(4096, 0x41), Buffer.from("GET / HTTP/1.0\r\n\r\n")]) {
      const raw = await greeted(path);
      await raw.option(OPT.STARTTLS);
      raw.write(noise);
      await raw.end();
    }
    const silent = await greeted(path);
    await silent.option(OPT.STARTTLS);
    await silent.end();
    await other.read(0, Buffer.alloc(4096));
  });
});

describe("credentials", () => {
  test.each([
    ["no files", {}, "NOT_FOUND", "no server-cert.pem"],
    ["a certificate without its key", { "server-cert.pem": "x" }, "NOT_FOUND", "no server-key.pem"],
    ["what is no certificate", { "server-cert.pem": "x", "server-key.pem": "y" }, "UNSUPPORTED", "not usable"],
    ["no keys", { "keys.psk": "# none\n" }, "UNSUPPORTED", "no key"],
    ["a key that is none", { "keys.psk": `alice:${KEY}\nbob:xyz\n` }, "UNSUPPORTED", "line 2"],
  ])("%s", (_what, files, code, text) => {
    const dir = join(tempDir(), "tls");
    mkdirSync(dir);
    for (const [name, contents] of Object.entries(files)) writeFileSync(join(dir, name), contents);
    expect(() => readServerCredentials(dir)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(text) }),
    );
  });
});
