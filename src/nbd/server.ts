/**
 * NBD server: fixed newstyle over TCP or a unix socket (doc/proto.md of NetworkBlockDevice/nbd).
 * Does: EXPORT_NAME GO INFO LIST ABORT STARTTLS STRUCTURED_REPLY EXTENDED_HEADERS LIST/SET_META_CONTEXT (base:allocation and one
 * qemu:dirty-bitmap); READ with holes and DF, WRITE, FUA, FLUSH, TRIM, WRITE_ZEROES, CACHE, BLOCK_STATUS; several connections and
 * requests at once. Does not: a filter in the payload of BLOCK_STATUS, RESIZE.
 */
import { type AddressInfo, createServer } from "node:net";
import type { Peer } from "../os/peer.js";
import { BufferPool } from "./buffer-pool.js";
import { MAX_PAYLOAD } from "./codes.js";
import { checkExports, type ExportSource } from "./exports.js";
import { type ListenAddress, LOOPBACK, listen } from "./listen.js";
import { type ConnectionLimits, ServerConnection } from "./server-connection.js";
import type { ServerTls } from "./server-tls.js";
import { SocketThreads } from "./socket-threads.js";
import { type NbdAddress, printNbdUri } from "./uri.js";

export type { Export, ExportSource } from "./exports.js";
export type { DirtyBitmap, DirtyRun } from "./meta-context.js";
export type { ServerTls } from "./server-tls.js";
export { readServerCredentials, type TlsCredentials } from "./tls-credentials.js";

export interface ClosedConnection {
  /** The export's own name, also when the client asked for the default; undefined when it never chose one. */
  readonly exportName: string | undefined;
  /** Whether it sent a write, trim or zero request that was let through. */
  readonly wrote: boolean;
}

export interface NbdServerOptions {
  readonly exports: ExportSource;
  readonly limits?: Partial<ServerLimits>;
  /** Clients can encrypt, or must. */
  readonly tls?: ServerTls;
  /** Called when the connection's last request has left the device too. */
  readonly onConnectionClosed?: (connection: ClosedConnection) => void;
  /** A device failed a request, or could not be offered; the client was told an error value. */
  readonly onError?: (error: unknown) => void;
}

export interface ServerLimits extends ConnectionLimits {
  /** Further clients are turned away. */
  readonly connections: number;
  /** How long `close` waits for clients to take their last replies. */
  readonly closeTimeoutMs: number;
}

const LIMITS: ServerLimits = {
  connections: 64,
  bytesInFlight: MAX_PAYLOAD,
  requestsInFlight: 1024,
  handshakeTimeoutMs: 10_000,
  closeTimeoutMs: 2000,
};

/** Payload buffers that lie ready for all connections. */
const POOL_BYTES = 16 << 20;

export interface NbdServer {
  /** The port that was taken, for servers on TCP. */
  readonly port: number | undefined;
  /** What a client connects to; by default the default export. */
  uri(exportName?: string): string;
  /** Clients that have chosen the export now, or any export. */
  connectionCount(exportName?: string): number;
  /** Each of those clients: its process, where the system can tell (a unix socket on Linux). */
  clients(exportName?: string): (Peer | null)[];
  /** For a thread with a loop of its own: takes in what clients have sent, without the event loop. Returns how many had sent something. */
  takeRequests(): number;
  /** Takes no more clients and removes the socket; those that are connected stay until `close`. Idempotent. */
  stopAccepting(): void;
  /** Takes no more clients and requests, lets requests in flight end, closes all connections and removes the socket. Idempotent. */
  close(): Promise<void>;
}

/** Throws `DENIED` when another server answers at the address, `RangeError` for exports that the protocol cannot carry. */
export async function serveNbd(options: NbdServerOptions & ListenAddress): Promise<NbdServer> {
  if (typeof options.exports !== "function") checkExports(options.exports);
  const limits = { ...LIMITS, ...options.limits };
  const pool = new BufferPool(POOL_BYTES);
  const { exports, tls } = options;
  const failed = (error: unknown) => options.onError?.(error);
  const threads = new SocketThreads({ ...limits, lingerMs: limits.handshakeTimeoutMs, failed });
  const context = { exports, limits, pool, tls, threads, failed };
  const clients = new Set<ServerConnection>();
  const accept = (client: ServerConnection) => {
    clients.add(client);
    void client.closed.then(() => {
      clients.delete(client);
      options.onConnectionClosed?.({ exportName: client.session?.name, wrote: client.wrote });
    });
  };
  // Without allowHalfOpen Node would end our half while requests of a client that ended its own are still in the device.
  const server = createServer({ allowHalfOpen: true }, (socket) => accept(new ServerConnection(socket, context)));
  server.maxConnections = limits.connections;
  await listen(server, options).catch((error) => {
    server.close();
    throw error;
  });
  server.on("error", (error) => options.onError?.(error));

  const target = boundTarget(options, server.address());
  const connected = (name: string | undefined) =>
    [...clients].filter(({ session }) => session && (name === undefined || session.name === name));
  let closing: Promise<void> | undefined;
  return {
    port: "port" in target ? target.port : undefined,
    uri: (exportName = "") => printNbdUri({ target, exportName, ...(tls ? { tls: {} } : {}) }),
    connectionCount: (name) => connected(name).length,
    clients: (name) => connected(name).map(({ peer }) => peer),
    takeRequests: () => {
      let count = 0;
      for (const client of clients) if (client.takeRequests()) count++;
      return count;
    },
    stopAccepting: () => void server.close(),
    close: () => (closing ??= closeAll(server, clients, limits.closeTimeoutMs).then(() => threads.close())),
  };
}

async function closeAll(
  server: ReturnType<typeof createServer>,
  clients: ReadonlySet<ServerConnection>,
  timeoutMs: number,
): Promise<void> {
  // Resolves when the last socket has closed; Node removes the socket's file.
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  const impatient = setTimeout(() => {
    for (const client of clients) client.destroy();
  }, timeoutMs);
  await Promise.all([...clients].map((client) => client.finish().then(() => client.closed)));
  await closed;
  clearTimeout(impatient);
}

function boundTarget(address: ListenAddress, bound: AddressInfo | string | null): NbdAddress["target"] {
  if ("path" in address) return { path: address.path };
  return { host: address.bind ?? LOOPBACK, port: (bound as AddressInfo).port };
}
