/** `xvd serve`: disks as NBD exports, until interrupted, until the last client has left, or until its starter has ended. */
import { basename } from "node:path";
import type { Command } from "commander";
import { DiskError } from "../../errors.js";
import type { Export, NbdServer, NbdServerOptions, ServerTls } from "../../nbd/server.js";
import type { OpenDisk } from "../../stack/disk.js";
import { addDiskOptions, type DiskFlags, openNamed } from "../disk.js";
import { printResult, remark } from "../print.js";

interface Flags extends DiskFlags {
  readonly name?: string;
  readonly socket?: string;
  readonly port?: string;
  readonly bind?: string;
  readonly readOnly?: boolean;
  readonly tls?: string;
  readonly tlsOptional?: boolean;
  readonly tlsVerifyPeer?: boolean;
  readonly persistent?: boolean;
  readonly json?: boolean;
}

/** How often it looks whether its starter is there. */
const LOOK_MS = 200;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export default function serve(command: Command): void {
  addDiskOptions(command.argument("<disk...>", "the disks to serve"))
    .option("--name <export>", "name of the export; one disk is the default export, several have their files' names")
    .option("--socket <path>", "listen on a unix socket, which only its owner can connect to")
    .option("--port <n>", "listen on a TCP port (default: 10809); 0 takes a free one")
    .option("--bind <address>", "the address to listen on (default: 127.0.0.1, this machine only)")
    .option("-r, --read-only", "let nobody write")
    .option("--tls <dir>", "encrypt: server-cert.pem, server-key.pem and ca-cert.pem, or keys.psk, in this folder")
    .option("--tls-optional", "let clients without TLS in too")
    .option("--tls-verify-peer", "let only clients in whose certificate ca-cert.pem has signed")
    .option("--persistent", "go on when the last client has left, or the program that started this has ended")
    .addHelpText(
      "after",
      `
Prints the URI when clients can connect. Ctrl-C and SIGTERM answer what was asked, write it to the disks, and end.
So does, without --persistent, the end of the shell or program that started it: nobody could interrupt it any more, and
it would keep the disk to itself.
Anybody who reaches the port can read and write the disk: beyond this machine use --tls.`,
    )
    .action((disks: string[], flags: Flags) => run(disks, flags));
}

async function run(disks: readonly string[], flags: Flags): Promise<void> {
  const starter = process.ppid; // before anything waits
  const address = addressOf(flags);
  if (flags.tls === undefined && (flags.tlsOptional || flags.tlsVerifyPeer))
    throw usage("--tls-optional or --tls-verify-peer is given without --tls");
  const names = exportNames(disks, flags.name);
  const tls = flags.tls === undefined ? undefined : await tlsOf(flags.tls, flags);
  const opened = new Map<string, OpenDisk>();
  try {
    for (const [i, disk] of disks.entries())
      opened.set(names[i]!, await openNamed(disk, { ...flags, writable: !flags.readOnly && !flags.forceShare }));
    const exports = new Map([...opened].map(([name, disk]) => [name, exportOf(disk)]));
    await serveUntilEnd({ ...address, exports, ...(tls ? { tls } : {}) }, opened, flags, starter);
  } finally {
    for (const { device } of opened.values()) await device.close();
  }
}

async function serveUntilEnd(
  options: NbdServerOptions & ReturnType<typeof addressOf>,
  opened: ReadonlyMap<string, OpenDisk>,
  flags: Flags,
  starter: number,
): Promise<void> {
  const { serveNbd } = await import("../../nbd/server.js");
  let end = () => {};
  const ended = new Promise<void>((resolve) => (end = resolve));
  const server: NbdServer = await serveNbd({
    ...options,
    onConnectionClosed({ exportName }) {
      // Whoever only looked at the list was no client of a disk.
      if (!flags.persistent && exportName !== undefined && server.connectionCount() === 0) end();
    },
    onError: (error) => remark(`xvd serve: ${error instanceof Error ? error.message : error}`),
  });
  for (const signal of SIGNALS) process.on(signal, end);
  // A process whose parent has ended is given to another one.
  const looks = setInterval(() => {
    if (!flags.persistent && process.ppid !== starter) end();
  }, LOOK_MS).unref();
  try {
    printReady(server, options, opened, flags);
    await ended;
  } finally {
    clearInterval(looks);
    await server.close();
    for (const { device } of opened.values()) if (device.writable) await device.flush();
    for (const signal of SIGNALS) process.off(signal, end);
  }
}

function printReady(
  server: NbdServer,
  options: ReturnType<typeof addressOf> & { readonly tls?: ServerTls },
  opened: ReadonlyMap<string, OpenDisk>,
  { json, persistent = false }: Flags,
): void {
  const place = "path" in options ? { socket: options.path } : { host: options.bind ?? "127.0.0.1", port: server.port };
  const exports = [...opened].map(([name, { name: disk, device }]) => ({
    name,
    disk: disk.text,
    size: device.size,
    "read-only": !device.writable,
    uri: server.uri(name),
  }));
  const document = {
    uri: exports[0]!.uri,
    pid: process.pid,
    ...place,
    tls: options.tls !== undefined,
    persistent,
    exports,
  };
  printResult(json, document, () => exports.map(({ uri }) => uri));
}

function exportOf({ device, format, file }: OpenDisk): Export {
  return { device, fastZero: file !== null && format === "raw" };
}

function exportNames(disks: readonly string[], name: string | undefined): readonly string[] {
  if (disks.length === 1) return [name ?? ""];
  if (name !== undefined) throw usage(`--name is given for ${disks.length} disks, allowed for one`);
  const names = disks.map((disk) => basename(disk));
  const twice = names.find((one, i) => names.indexOf(one) !== i);
  if (twice !== undefined) throw usage(`two of the disks are called ${JSON.stringify(twice)}`);
  return names;
}

function addressOf({ socket, port, bind }: Flags): { path: string } | { port: number; bind?: string } {
  if (socket !== undefined) {
    if (port !== undefined || bind !== undefined) throw usage("--socket is given with --port or --bind");
    return { path: socket };
  }
  const number = Number(port ?? 10809);
  if ((port !== undefined && !/^\d+$/.test(port)) || number > 65535)
    throw usage(`the port is ${JSON.stringify(port)}, allowed 0..65535`);
  return { port: number, ...(bind === undefined ? {} : { bind }) };
}

async function tlsOf(folder: string, { tlsOptional = false, tlsVerifyPeer = false }: Flags): Promise<ServerTls> {
  const { readServerCredentials } = await import("../../nbd/server.js");
  const credentials = readServerCredentials(folder);
  if (tlsVerifyPeer && credentials.ca === undefined)
    throw new DiskError("NOT_FOUND", `Cannot verify clients: ${JSON.stringify(folder)} has no ca-cert.pem`);
  return { credentials, required: !tlsOptional, verifyClients: tlsVerifyPeer };
}

function usage(found: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot serve: ${found}`, { details: { usage: true } });
}
