/**
 * The daemon: one for each XVD_RUN, held by a lock on a file there; a control socket, a xenstored socket, and the host.
 * What it holds is written down in XVD_HOME before an attach is answered, so that after a crash the next start can tell.
 * A crash loses nothing that was flushed: data goes to the disk's file itself, never through a buffer of the daemon's.
 */
import { createServer, type Server } from "node:http";
import { DiskError } from "../errors.js";
import { openFile } from "../os/file.js";
import { readJsonFile, removeJsonFile, writeJsonFile } from "../os/json-file.js";
import { lockFile } from "../os/lock.js";
import { pathExists } from "../os/paths.js";
import { restrictSocketFile } from "../os/socket-file.js";
import { ensurePrivateDir, removeTree } from "../os/trees.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import { serveXenstoreSocket } from "../xen/platform/xenstore-socket.js";
import { answer } from "./api.js";
import type { Dom0Record, Dom0Status } from "./api-types.js";
import { describeFound } from "./found.js";
import { Host } from "./host.js";
import { controlSocket, kernelRecordFile, recordFile, runId, xenstoreSocket } from "./places.js";

export interface DaemonOptions {
  readonly paths: XvdPaths;
  readonly pid: number;
  /** Time of the start, as ISO 8601 text. */
  readonly started: string;
  /** A text that no other call has returned, on any host. */
  newToken(): string;
  log(message: string): void;
}

export interface Daemon {
  /** What a daemon before this one left behind, if it did not stop in order. */
  readonly found: Dom0Record | null;
  /** Resolves when the daemon has stopped, by a request or by `stop`. */
  readonly stopped: Promise<void>;
  stop(): Promise<void>;
}

/** Throws `DENIED` when a daemon runs already on these paths. */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const { paths } = options;
  ensurePrivateDir(paths.home);
  ensurePrivateDir(paths.run);
  const release = await lockRun(paths.run);
  try {
    return await run(options, release);
  } catch (error) {
    await release();
    throw error;
  }
}

async function run(options: DaemonOptions, release: () => Promise<void>): Promise<Daemon> {
  const { paths, log } = options;
  const found = readJsonFile(recordFile(paths)) as Dom0Record | null;
  removeTree(`${paths.run}/domains`); // sockets that a killed daemon left
  removeTree(controlSocket(paths));
  await removeKernelLeftovers(options);
  const record = () => writeRecord(options, host);
  const host: Host = await Host.start({
    paths,
    ensureDir: ensurePrivateDir,
    removeDir: removeTree,
    newToken: options.newToken,
    onError: log,
    onChange: record,
  });
  record();
  ensurePrivateDir(`${paths.run}/xenstored`);
  const xenstore = await serveXenstoreSocket(host.xenstored, xenstoreSocket(paths));

  let finish!: () => void;
  const stopped = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let ending: Promise<void> | undefined;
  const end = () =>
    (ending ??= (async () => {
      server.close();
      server.closeAllConnections();
      await xenstore.close();
      removeJsonFile(recordFile(paths));
      removeTree(controlSocket(paths));
      removeTree(`${paths.run}/domains`);
      await release();
      finish();
    })());
  const context = { host, status: () => status(options, host, found), stop: () => void end() };
  const server = createServer((request, response) => void answer(context, request, response));
  await listen(server, controlSocket(paths));
  if (found) log(describeFound(found));
  return {
    found,
    stopped,
    async stop() {
      await host.stop();
      await end();
    },
  };
}

async function status(options: DaemonOptions, host: Host, found: Dom0Record | null): Promise<Dom0Status> {
  return {
    running: true,
    pid: options.pid,
    started: options.started,
    xenstored: xenstoreSocket(options.paths),
    domains: await host.domains(),
    found,
  };
}

/** Kernel devices of a daemon before this one. What cannot be removed must not keep this one from starting. */
async function removeKernelLeftovers({ paths, log }: DaemonOptions): Promise<void> {
  if (!pathExists("/sys/block")) return;
  const { removeLeftovers } = await import("../kernel/leftovers.js");
  try {
    const told = await removeLeftovers(runId(paths), kernelRecordFile(paths));
    if (told.length > 0) log(`kernel devices of an earlier run: ${told.join(", ")}`);
  } catch (error) {
    log((error as Error).message);
  }
}

/** A full disk must not end a daemon that serves others: it is told, and the next start knows less. */
function writeRecord(options: DaemonOptions, host: Host): void {
  const record: Dom0Record = {
    pid: options.pid,
    started: options.started,
    run: options.paths.run,
    devices: host.attached(),
  };
  try {
    writeJsonFile(recordFile(options.paths), record);
  } catch (error) {
    options.log((error as Error).message);
  }
}

async function lockRun(run: string): Promise<() => Promise<void>> {
  const path = `${run}/dom0.lock`;
  const file = await openFile(path, { writable: true, create: true }).catch((error: unknown) => {
    if (error instanceof DiskError && error.code === "DENIED") return openFile(path, { writable: true });
    throw error;
  });
  try {
    const lock = lockFile(file, "write", { purpose: `start Dom0 in ${run}` });
    return async () => {
      lock.release();
      await file.close();
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function listen(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > 107)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot listen on ${JSON.stringify(path)}: it has ${Buffer.byteLength(path)} bytes, allowed 107 for a socket; set XVD_RUN to a shorter path`,
    );
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  await restrictSocketFile(path);
}
