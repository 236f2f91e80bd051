/** TLS between our ends and those of libnbd, nbdkit and QEMU: certificates made by openssl, and pre-shared keys. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { connectNbd } from "#src/nbd/client.js";
import { readServerCredentials, type ServerTls, serveNbd } from "#src/nbd/server.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { type PeerServer, peerServer, tool } from "./nbd-support.js";

const SIZE = 4 << 20;
const dir = tempDir();
const [pki, caOnly, otherPki] = ["pki", "ca-only", "other"].map((name) => join(dir, name)) as [string, string, string];
const keys = join(dir, "keys", "keys.psk");

beforeAll(async () => {
  mkdirSync(join(dir, "keys"));
  writeFileSync(keys, "alice:0123456789abcdef0123456789abcdef\n");
  if (!havePeer("openssl")) return;
  for (const folder of [pki, otherPki]) await makePki(folder);
  mkdirSync(caOnly);
  await tool("cp", join(pki, "ca-cert.pem"), caOnly);
});

/** An authority, and a server's and a client's certificate that it signed. */
async function makePki(folder: string): Promise<void> {
  mkdirSync(folder);
  const at = (name: string) => join(folder, name);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const ca = ["-keyout", at("ca-key.pem"), "-out", at("ca-cert.pem"), "-subj", "/CN=test authority", "-days", "2"];
  await tool("openssl", "req", "-x509", ...key, ...ca, "-addext", "keyUsage=critical,keyCertSign");
  for (const who of ["server", "client"]) {
    const name = ["-keyout", at(`${who}-key.pem`), "-out", at(`${who}.csr`), "-subj", "/CN=localhost"];
    await tool("openssl", "req", ...key, ...name);
    writeFileSync(at("ext"), `subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=${who}Auth\n`);
    const sign = ["-CA", at("ca-cert.pem"), "-CAkey", at("ca-key.pem"), "-CAcreateserial", "-extfile", at("ext")];
    await tool(
      "openssl",
      "x509",
      "-req",
      "-in",
      at(`${who}.csr`),
      "-out",
      at(`${who}-cert.pem`),
      "-days",
      "2",
      ...sign,
    );
  }
}

const open: { close(): Promise<void> }[] = [];
const peers: PeerServer[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
  for (const peer of peers.splice(0)) await peer.stop();
});
afterAll(() => expect(open).toEqual([]));

async function serve(folder: string, tls: Partial<ServerTls> = {}, tcp = true) {
  const server = await serveNbd({
    ...(tcp ? { port: 0 } : { path: join(tempDir(), "s") }),
    exports: new Map([["disk", { device: memoryDevice(SIZE, { blockSize: 512 }) }]]),
    tls: { credentials: readServerCredentials(folder), ...tls },
  });
  open.push(server);
  return server;
}

async function works(client: BlockDevice): Promise<void> {
  open.push(client);
  const data = Buffer.alloc(1 << 20, "secret ");
  await client.write(4096, data);
  const back = Buffer.alloc(data.length);
  await client.read(4096, back);
  expect(back.equals(data)).toBe(true);
}

describe.skipIf(!havePeer("openssl"))("certificates", () => {
  test("our client knows our server by its authority and its name", async () => {
    const { port } = await serve(pki);
    const uri = (host: string, query: string) => `nbds://${host}:${port}/disk?${query}`;
    await works(await connectNbd(uri("localhost", `tls-certificates=${pki}`)));
    await works(await connectNbd(uri("127.0.0.1", `tls-certificates=${pki}`)));
    await works(await connectNbd(uri("127.0.0.1", "tls-verify-peer=false")));
    for (const query of ["", `tls-certificates=${otherPki}`, `tls-certificates=${pki}&tls-hostname=elsewhere`])
      await expect(connectNbd(uri("localhost", query))).rejects.toMatchObject({
        code: "DENIED",
        message: expect.stringContaining("certificate is not accepted"),
      });
  });

  test("clients show theirs where the server asks for one", async () => {
    const { port } = await serve(pki, { verifyClients: true });
    const uri = (folder: string) => `nbds://localhost:${port}/disk?tls-certificates=${folder}`;
    await works(await connectNbd(uri(pki)));
    await expect(connectNbd(uri(caOnly))).rejects.toMatchObject({ code: expect.stringMatching(/DENIED|IO/) });
  });

  test.skipIf(!havePeer("nbdinfo"))("libnbd comes in with them, and not without", async () => {
    const server = await serve(pki, { verifyClients: true });
    const uri = `nbds://localhost:${server.port}/disk`;
    expect(await tool("nbdinfo", "--size", `${uri}?tls-certificates=${pki}`)).toBe(`${SIZE}\n`);
    await expect(tool("nbdinfo", "--size", `${uri}?tls-certificates=${caOnly}`)).rejects.toThrow();
    await expect(tool("nbdinfo", "--size", uri.replace("nbds", "nbd"))).rejects.toThrow(/TLS/);
  });

  test.skipIf(!havePeer("qemu-img"))("QEMU comes in with them", async () => {
    const { port } = await serve(pki, { verifyClients: true });
    const credentials = `tls-creds-x509,id=t,endpoint=client,dir=${pki}`;
    const image = `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=t`;
    const args = ["info", "--output=json", "--object", credentials, "--image-opts", image];
    expect(JSON.parse(await tool("qemu-img", ...args))).toMatchObject({ "virtual-size": SIZE });
  });

  test.skipIf(!havePeer("nbdkit"))("our client on nbdkit", async () => {
    const socket = join(tempDir(), "k");
    const tls = ["--tls=require", `--tls-certificates=${pki}`, "--tls-verify-peer"];
    peers.push(await peerServer(socket, "nbdkit", "-f", "-U", socket, ...tls, "memory", String(SIZE)));
    await works(await connectNbd(`nbds+unix:///?socket=${socket}&tls-certificates=${pki}`));
    await expect(connectNbd(`nbd+unix:///?socket=${socket}`)).rejects.toMatchObject({ code: "UNSUPPORTED" });
  });

  test.skipIf(!havePeer("qemu-nbd"))("our client on qemu-nbd", async () => {
    const socket = join(tempDir(), "q");
    const disk = join(tempDir(), "disk.img");
    writeFileSync(disk, Buffer.alloc(SIZE));
    const tls = ["--object", `tls-creds-x509,id=t,endpoint=server,dir=${pki},verify-peer=on`, "--tls-creds", "t"];
    peers.push(await peerServer(socket, "qemu-nbd", "-k", socket, "-t", "-f", "raw", ...tls, disk));
    await works(await connectNbd(`nbds+unix:///?socket=${socket}&tls-certificates=${pki}`));
  });
});

describe("pre-shared keys", () => {
  const query = (socket: string) => `socket=${socket}&tls-psk-file=${keys}`;

  test.skipIf(!havePeer("nbdinfo", "nbdcopy"))("libnbd comes in", async () => {
    const server = await serve(join(dir, "keys"), {}, false);
    const socket = new URL(server.uri()).searchParams.get("socket")!;
    expect(await tool("nbdinfo", "--size", `nbds+unix://alice@/disk?${query(socket)}`)).toBe(`${SIZE}\n`);
    await tool("nbdcopy", `nbds+unix://alice@/disk?${query(socket)}`, join(tempDir(), "copy.img"));
    await expect(tool("nbdinfo", "--size", `nbds+unix://bob@/disk?${query(socket)}`)).rejects.toThrow();
  });

  test.skipIf(!havePeer("nbdkit"))("our client on nbdkit", async () => {
    const socket = join(tempDir(), "k");
    const args = ["-f", "-U", socket, "--tls=require", `--tls-psk=${keys}`, "memory", String(SIZE)];
    peers.push(await peerServer(socket, "nbdkit", ...args));
    await works(await connectNbd(`nbds+unix://alice@/?${query(socket)}`));
  });
});
