/** Makes a server listen: on a TCP port, or on a unix socket whose stale file is replaced and whose live one is not. */
import { connect, type Server } from "node:net";
import { DiskError, fromErrno } from "../errors.js";
import { removeSocketFile, restrictSocketFile, socketFileKind } from "../os/socket-file.js";
import { checkSocketPath } from "./uri.js";

export type ListenAddress =
  /** A unix socket that only its owner can connect to. */
  | { readonly path: string }
  /** `port` 0 takes a free one; `bind` is an address of this machine, by default loopback. */
  | { readonly port: number; readonly bind?: string };

export const LOOPBACK = "127.0.0.1";

/** How long a listener may take to accept before its socket counts as in use. */
const ANSWER_MS = 1000;

export async function listen(server: Server, address: ListenAddress): Promise<void> {
  if (!("path" in address)) {
    const { port, bind = LOOPBACK } = address;
    return bound(server, { port, host: bind }).catch((error) => {
      throw listenError(`${bind}:${port}`, error);
    });
  }
  const { path } = address;
  checkSocketPath("listen on", path);
  await removeStale(path);
  await bound(server, { path }).catch((error) => {
    throw listenError(`socket ${JSON.stringify(path)}`, error);
  });
  await restrictSocketFile(path);
}

function bound(server: Server, options: { path: string } | { port: number; host: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function listenError(object: string, error: unknown): DiskError {
  if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") return fromErrno(`listen on ${object}`, error);
  return new DiskError("DENIED", `Cannot listen on ${object}: another server answers there`, {
    details: { errno: "EADDRINUSE" },
    cause: error,
  });
}

async function removeStale(path: string): Promise<void> {
  const kind = await socketFileKind(path);
  if (kind === "none") return;
  if (kind === "other")
    throw new DiskError("DENIED", `Cannot listen on socket ${JSON.stringify(path)}: a file of that name is no socket`);
  if (await isAnswered(path))
    throw new DiskError("DENIED", `Cannot listen on socket ${JSON.stringify(path)}: another server answers there`);
  await removeSocketFile(path);
}

/** Only a refused connection proves that nobody listens; every other outcome leaves the file alone. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    const answer = (answered: boolean) => {
      probe.destroy();
      resolve(answered);
    };
    probe.setTimeout(ANSWER_MS, () => answer(true));
    probe.once("connect", () => answer(true));
    probe.once("error", (error: NodeJS.ErrnoException) =>
      answer(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"),
    );
  });
}
