/** The store on a unix socket, as Xen's own clients expect it (XENSTORED_PATH): whoever may connect speaks for Dom0. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { DiskError, fromErrno } from "../../errors.js";
import { removeSocketFile, restrictSocketFile, socketFileKind } from "../../os/socket-file.js";
import type { Xenstored } from "../xenstore/server.js";
import type { Transport } from "../xenstore/transport.js";

export interface XenstoreSocket {
  readonly path: string;
  /** Clients connected now. */
  readonly clients: number;
  /** Ends all clients and removes the socket's file. Idempotent. */
  close(): Promise<void>;
}

/** Bytes of sun_path without its final NUL; a longer one would be cut silently. */
const SOCKET_PATH_MAX = 107;
/** How long a listener may take to accept before its socket counts as in use. */
const ANSWER_MS = 1000;
const MAX_CLIENTS = 1024;

/**
 * Listens at `path` with mode 0600. The file of a store that nobody answers for is replaced; `DENIED` when somebody does,
 * or when the file is no socket. The folder exists, and only its owner may write to it.
 */
export async function serveXenstoreSocket(xenstored: Xenstored, path: string): Promise<XenstoreSocket> {
  checkPath("listen on", path);
  await removeStale(path);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    serveClient(xenstored, socket);
  });
  server.maxConnections = MAX_CLIENTS;
  await listening(server, path);
  await restrictSocketFile(path).catch((error) => {
    server.close();
    throw error;
  });
  let closed: Promise<void> | undefined;
  return {
    path,
    get clients() {
      return sockets.size;
    },
    close() {
      closed ??= new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      });
      return closed;
    },
  };
}

/** A client's way to a store on a socket: ours, or a real Dom0's `/run/xenstored/socket`. */
export async function connectXenstoreSocket(path: string): Promise<Transport> {
  checkPath("connect to", path);
  const socket = await new Promise<Socket>((resolve, reject) => {
    const opening = connect({ path }, () => resolve(opening));
    opening.once("error", (error) => reject(fromErrno(`connect to xenstore ${JSON.stringify(path)}`, error)));
  });
  return socketTransport(socket);
}

/** No more of the client's requests are read while it does not read the replies. */
function serveClient(xenstored: Xenstored, socket: Socket): void {
  const send = (message: Uint8Array) => {
    const isFree = socket.write(message);
    if (!isFree) socket.pause();
    return isFree;
  };
  const connection = xenstored.connect(0, send, () => socket.destroy());
  socket.on("data", (bytes: Buffer) => {
    socket.cork(); // one system call for the replies to everything that came together
    connection.receive(bytes);
    socket.uncork();
  });
  socket.on("drain", () => {
    connection.resume();
    if (!connection.blocked) socket.resume();
  });
  socket.on("error", () => {}); // "close" follows
  socket.on("close", () => connection.close());
}

function socketTransport(socket: Socket): Transport {
  let ended: (reason?: DiskError) => void = () => {};
  let reason: DiskError | undefined;
  let closed = false;
  socket.on("error", (error) => {
    reason = fromErrno("talk to xenstore", error);
  });
  socket.on("close", () => {
    if (closed) return;
    closed = true;
    ended(reason);
  });
  return {
    send(bytes) {
      if (!closed) socket.write(bytes);
    },
    onReceive: (callback) => void socket.on("data", callback),
    onClose: (callback) => {
      ended = callback;
    },
    close() {
      closed = true;
      socket.destroy();
    },
  };
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(fromErrno(`listen on xenstore socket ${JSON.stringify(path)}`, error)));
    server.listen({ path }, resolve);
  });
}

function checkPath(verb: string, path: string): void {
  const length = Buffer.byteLength(path);
  if (length > SOCKET_PATH_MAX)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot ${verb} xenstore socket ${JSON.stringify(path)}: its path has ${length} bytes, allowed ${SOCKET_PATH_MAX}`,
      { details: { length } },
    );
}

async function removeStale(path: string): Promise<void> {
  const kind = await socketFileKind(path);
  if (kind === "none") return;
  if (kind === "other") throw refused(path, "a file of that name is no socket");
  if (await isAnswered(path)) throw refused(path, "another xenstored answers there");
  await removeSocketFile(path);
}

function refused(path: string, why: string): DiskError {
  return new DiskError("DENIED", `Cannot listen on xenstore socket ${JSON.stringify(path)}: ${why}`);
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
