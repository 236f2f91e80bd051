/** One connection of the client: the socket, the handshake on it, then many requests in flight, each with a cookie of its own. */
import { connect, type Socket } from "node:net";
import { DiskError, fromErrno } from "../errors.js";
import { type Agreement, type Channel, negotiate } from "./client-handshake.js";
import { CMD, REQUEST_MAGIC } from "./codes.js";
import { fromNbdErrno } from "./errno.js";
import { REQUEST } from "./layout.js";
import { Outbox } from "./outbox.js";
import { PendingRequest, ReplyParser } from "./reply-parser.js";
import { KEEP_ALIVE_MS, sendParts } from "./socket.js";
import type { NbdAddress } from "./uri.js";

export interface ConnectionOptions {
  /** For connecting and the handshake. */
  readonly timeoutMs: number;
  /** Silence with requests in flight after which the server counts as lost; 0: never. */
  readonly silenceMs: number;
}

interface Waiting {
  readonly request: PendingRequest;
  readonly resolve: (request: PendingRequest) => void;
  readonly reject: (error: Error) => void;
}

const { fields } = REQUEST;
const READ_BUFFER = 256 << 10;
/** How long `close` waits for the server to hang up after DISC. */
const DISC_MS = 2000;

const VERBS: Record<number, string> = {
  [CMD.READ]: "read",
  [CMD.WRITE]: "write",
  [CMD.FLUSH]: "flush",
  [CMD.TRIM]: "discard",
  [CMD.WRITE_ZEROES]: "zero",
  [CMD.BLOCK_STATUS]: "map",
};

export class ClientConnection {
  readonly #socket: Socket;
  readonly #label: string;
  readonly #outbox: Outbox;
  readonly #waiting = new Map<number, Waiting>();
  /** Who takes the bytes that come in: the handshake, then the parser. */
  #receive: (bytes: Buffer) => void = () => {};
  #onLost: (error: DiskError) => void = () => {};
  #cookie = 0;
  #lost: DiskError | undefined;
  #closing = false;
  #agreement!: Agreement;
  readonly #closed: Promise<void>;

  /** Connects and agrees on the export; the connection is closed when that fails. `label` names the server in errors. */
  static async open(address: NbdAddress, label: string, options: ConnectionOptions): Promise<ClientConnection> {
    const connection = new ClientConnection(address, label, options.timeoutMs);
    try {
      const { channel, rest } = connection.#channel();
      connection.#agreement = await negotiate(channel, address.exportName, label);
      connection.#begin(rest(), options.silenceMs);
      return connection;
    } catch (error) {
      connection.#socket.end(() => connection.#socket.destroy()); // an ABORT may still have to leave
      throw error;
    }
  }

  private constructor(address: NbdAddress, label: string, timeoutMs: number) {
    this.#label = label;
    const onread = {
      buffer: Buffer.allocUnsafeSlow(READ_BUFFER),
      callback: (size: number, bytes: Uint8Array) => this.#read(bytes as Buffer, size),
    };
    const socket = connect({ ...address.target, onread });
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.setTimeout(timeoutMs);
    socket.on("timeout", () => this.#silent(timeoutMs));
    socket.on("error", (error) => this.#lose(fromErrno(`use ${label}`, error)));
    this.#closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#lose(new DiskError("IO", `Cannot use ${label}: the server closed the connection`));
        resolve();
      });
    });
    // Requests that are made in one go leave in one write.
    this.#outbox = new Outbox(
      (parts, sent) => sendParts(socket, parts, sent),
      queueMicrotask,
      () => {},
    );
  }

  get agreement(): Agreement {
    return this.#agreement;
  }

  get inFlight(): number {
    return this.#waiting.size;
  }

  /** Sends a request and resolves with its complete and checked reply. `into` and `data` stay the connection's until then. */
  request(type: number, offset: number, length: number, buffer?: Uint8Array, flags = 0): Promise<PendingRequest> {
    if (this.#lost) return Promise.reject(this.#lost);
    const cookie = this.#nextCookie();
    const at = this.#outbox.reserve(REQUEST.size);
    const { block } = this.#outbox;
    block.writeUInt32BE(REQUEST_MAGIC, at + fields.magic.offset);
    block.writeUInt16BE(flags, at + fields.flags.offset);
    block.writeUInt16BE(type, at + fields.type.offset);
    block.writeUInt32BE(0, at + fields.cookie.offset);
    block.writeUInt32BE(cookie, at + fields.cookie.offset + 4);
    block.writeUInt32BE(Math.floor(offset / 2 ** 32), at + fields.offset.offset);
    block.writeUInt32BE(offset % 2 ** 32, at + fields.offset.offset + 4);
    block.writeUInt32BE(length, at + fields.length.offset);
    if (type === CMD.WRITE) this.#outbox.payload(buffer!);
    const request = new PendingRequest(type, offset, length, type === CMD.READ ? buffer : undefined);
    return new Promise((resolve, reject) => this.#waiting.set(cookie, { request, resolve, reject }));
  }

  /** Says DISC, waits for the replies still to come and for the server to hang up. */
  async close(): Promise<void> {
    if (this.#closing || this.#lost) return this.#closed;
    this.#closing = true;
    const at = this.#outbox.reserve(REQUEST.size);
    REQUEST.encode(
      { flags: 0, type: CMD.DISC, cookie: new Uint8Array(8), offset: 0n, length: 0 },
      this.#outbox.block,
      at,
    );
    this.#outbox.flush();
    const socket = this.#socket;
    socket.setTimeout(DISC_MS);
    socket.end();
    return this.#closed;
  }

  #nextCookie(): number {
    do this.#cookie = (this.#cookie + 1) >>> 0;
    while (this.#waiting.has(this.#cookie));
    return this.#cookie;
  }

  #read(buffer: Buffer, size: number): boolean {
    try {
      this.#receive(buffer.subarray(0, size));
    } catch (error) {
      this.#lose(error instanceof DiskError ? error : fromErrno(`use ${this.#label}`, error));
    }
    return true;
  }

  /** The socket's bytes for a handshake that waits for them piece by piece. `rest` is what it left. */
  #channel(): { channel: Channel; rest: () => Buffer } {
    let input: Buffer = Buffer.alloc(0);
    let wanted: { length: number; resolve: (bytes: Buffer) => void; reject: (error: Error) => void } | undefined;
    const serve = () => {
      if (!wanted || input.length < wanted.length) return;
      const { length, resolve } = wanted;
      wanted = undefined;
      const bytes = input.subarray(0, length);
      input = input.subarray(length);
      resolve(bytes);
    };
    this.#receive = (bytes) => {
      input = Buffer.concat([input, bytes]);
      serve();
    };
    this.#onLost = (error) => wanted?.reject(error);
    const receive = (length: number) =>
      new Promise<Buffer>((resolve, reject) => {
        if (this.#lost) return reject(this.#lost);
        wanted = { length, resolve, reject };
        serve();
      });
    return { channel: { send: (bytes) => void this.#socket.write(bytes), receive }, rest: () => input };
  }

  #begin(rest: Buffer, silenceMs: number): void {
    const events = {
      find: (high: number, low: number) => (high === 0 ? this.#waiting.get(low)?.request : undefined),
      done: (request: PendingRequest, cookie: number) => this.#done(request, cookie),
    };
    const parser = new ReplyParser(events, this.#agreement, this.#label);
    this.#receive = (bytes) => parser.receive(bytes);
    this.#onLost = () => {};
    this.#socket.setTimeout(silenceMs);
    if (rest.length > 0) this.#read(rest, rest.length);
  }

  #done(request: PendingRequest, cookie: number): void {
    const { resolve, reject } = this.#waiting.get(cookie)!;
    this.#waiting.delete(cookie);
    if (request.errno === 0) resolve(request);
    else reject(this.#refused(request));
  }

  #refused({ type, offset, length, errno, message }: PendingRequest): DiskError {
    const where = type === CMD.FLUSH ? "all bytes" : `bytes ${offset}..${offset + length}`;
    return fromNbdErrno(errno, VERBS[type] ?? "use", this.#label, where, message);
  }

  #silent(timeoutMs: number): void {
    if (this.#closing) return void this.#socket.destroy();
    const established = this.#agreement !== undefined;
    if (established && this.#waiting.size === 0) return;
    const what = established
      ? "the server does not answer"
      : `the server did not complete the handshake within ${timeoutMs} ms`;
    this.#lose(new DiskError("IO", `Cannot use ${this.#label}: ${what}`));
  }

  /** The end of the connection, said once: everybody who waits is told why. */
  #lose(error: DiskError): void {
    if (this.#lost) return;
    this.#lost = error;
    this.#socket.destroy();
    this.#onLost(error);
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
