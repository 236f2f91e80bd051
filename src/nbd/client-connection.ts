/** One connection of the client: the socket, the handshake on it, then many requests in flight, each with a cookie of its own. */
import { connect, type Socket } from "node:net";
import { DiskError, fromErrno } from "../errors.js";
import { type StreamIo, streamIo } from "../os/stream-io.js";
import { type Agreement, type Channel, negotiate } from "./client-handshake.js";
import { type ClientTls, encryptClientSide, tlsError } from "./client-tls.js";
import { CMD, CMD_FLAG, EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC } from "./codes.js";
import { fromNbdErrno } from "./errno.js";
import { EXTENDED_REQUEST, REQUEST } from "./layout.js";
import { Outbox } from "./outbox.js";
import { type PendingRequest, ReplyParser } from "./reply-parser.js";
import { descriptorOf, KEEP_ALIVE_MS, sendParts } from "./socket.js";
import type { NbdAddress } from "./uri.js";

export interface ConnectionOptions {
  /** For connecting and the handshake. */
  readonly timeoutMs: number;
  /** Silence with requests in flight after which the server counts as lost; 0: never. */
  readonly silenceMs: number;
}

/** A request, and who waits for its reply. */
export interface Waiting {
  readonly request: PendingRequest;
  readonly resolve: (request: PendingRequest) => void;
  readonly reject: (error: Error) => void;
}

/** Where a connection goes. */
export interface ServerAddress extends Pick<NbdAddress, "target" | "exportName"> {
  /** Present: it is encrypted. */
  readonly tls: ClientTls | undefined;
  /** Names the server in errors. */
  readonly label: string;
}

const { fields } = REQUEST;
const READ_BUFFER = 64 << 10;
/** As much data of one read, still to come, is received straight to its reader. */
const DIRECT_FROM = 32 << 10;
/** After that many bytes in one go others have their turn. */
const DIRECT_MOST = 1 << 20;
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
  readonly #plain: Socket;
  /** What the protocol is spoken on: the plain socket, or the encrypted one over it. */
  #stream: Socket;
  readonly #label: string;
  readonly #outbox: Outbox;
  readonly #waiting = new Map<number, Waiting>();
  /** Who takes the bytes that come in: the handshake, then the parser. */
  #receive: (bytes: Buffer) => void = () => {};
  #onLost: (error: DiskError) => void = () => {};
  #whenLost: (error: DiskError, unanswered: readonly Waiting[]) => void = (error, unanswered) => {
    for (const { reject } of unanswered) reject(error);
  };
  #cookie = 0;
  #answered = 0;
  #lost: DiskError | undefined;
  #closing = false;
  #agreement!: Agreement;
  readonly #closed: Promise<void>;

  /** Connects and agrees on the export; the connection is closed when that fails. */
  static async open(address: ServerAddress, options: ConnectionOptions): Promise<ClientConnection> {
    const connection = new ClientConnection(address, options.timeoutMs);
    try {
      const { channel, rest } = connection.#channel(address.tls, options.timeoutMs);
      connection.#agreement = await negotiate(channel, address.exportName, address.label);
      connection.#begin(rest(), options.silenceMs);
      return connection;
    } catch (error) {
      connection.#stream.end(() => connection.#destroy()); // an ABORT may still have to leave
      throw error;
    }
  }

  private constructor({ target, tls, label }: ServerAddress, timeoutMs: number) {
    this.#label = label;
    const socket = connect(tls ? target : { ...target, onread: this.#intoOneBuffer() });
    this.#plain = this.#stream = socket;
    if (tls) socket.on("data", this.#onData);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#watch(socket, timeoutMs);
    this.#closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#lose(new DiskError("IO", `Cannot use ${label}: the server closed the connection`));
        resolve();
      });
    });
    // Requests that are made in one go leave in one write.
    this.#outbox = new Outbox(
      (parts, sent) => sendParts(this.#stream, parts, sent),
      queueMicrotask,
      () => {},
    );
  }

  /** No allocation for what comes in. */
  #intoOneBuffer() {
    return {
      buffer: Buffer.allocUnsafeSlow(READ_BUFFER),
      callback: (size: number, bytes: Uint8Array) => this.#read((bytes as Buffer).subarray(0, size)),
    };
  }

  readonly #onData = (bytes: Buffer) => void this.#read(bytes);

  #watch(stream: Socket, timeoutMs: number): void {
    stream.setTimeout(timeoutMs);
    stream.on("timeout", () => this.#silent(timeoutMs));
    stream.on("error", (error) => this.#lose(tlsError(this.#label, error)));
  }

  #destroy(): void {
    this.#stream.destroy();
    this.#plain.destroy();
  }

  get agreement(): Agreement {
    return this.#agreement;
  }

  get inFlight(): number {
    return this.#waiting.size;
  }

  /** Replies that came. */
  get answered(): number {
    return this.#answered;
  }

  /** From now on the end of the connection is told here, with all requests that were not answered, in the order of their sending. */
  whenLost(tell: (error: DiskError, unanswered: readonly Waiting[]) => void): void {
    if (this.#lost) tell(this.#lost, []);
    else this.#whenLost = tell;
  }

  /** Sends a request, whose buffer stays the connection's until its reply came, or until the end of the connection was told. */
  send(waiting: Waiting): void {
    if (this.#lost) return void waiting.reject(this.#lost);
    const { request } = waiting;
    const cookie = this.#nextCookie();
    const { extendedHeaders } = this.#agreement;
    const payload = extendedHeaders && request.type === CMD.WRITE ? CMD_FLAG.PAYLOAD_LEN : 0;
    const at = this.#outbox.reserve(extendedHeaders ? EXTENDED_REQUEST.size : REQUEST.size);
    const { block } = this.#outbox;
    // Both kinds of header begin alike.
    block.writeUInt32BE(extendedHeaders ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC, at + fields.magic.offset);
    block.writeUInt16BE(request.flags | payload, at + fields.flags.offset);
    block.writeUInt16BE(request.type, at + fields.type.offset);
    block.writeUInt32BE(0, at + fields.cookie.offset);
    block.writeUInt32BE(cookie, at + fields.cookie.offset + 4);
    writeU64(block, request.offset, at + fields.offset.offset);
    if (extendedHeaders) writeU64(block, request.length, at + EXTENDED_REQUEST.fields.length.offset);
    else block.writeUInt32BE(request.length, at + fields.length.offset);
    if (request.data) this.#outbox.payload(request.data);
    this.#waiting.set(cookie, waiting);
  }

  /** Says DISC, waits for the replies still to come and for the server to hang up. */
  async close(): Promise<void> {
    if (this.#closing || this.#lost) return this.#closed;
    this.#closing = true;
    this.#sayGoodbye();
    this.#stream.setTimeout(DISC_MS);
    this.#stream.end();
    return this.#closed;
  }

  #sayGoodbye(): void {
    const disc = { flags: 0, type: CMD.DISC, cookie: new Uint8Array(8), offset: 0n };
    if (this.#agreement.extendedHeaders) {
      const at = this.#outbox.reserve(EXTENDED_REQUEST.size);
      EXTENDED_REQUEST.encode({ ...disc, length: 0n }, this.#outbox.block, at);
    } else {
      const at = this.#outbox.reserve(REQUEST.size);
      REQUEST.encode({ ...disc, length: 0 }, this.#outbox.block, at);
    }
    this.#outbox.flush();
  }

  #nextCookie(): number {
    do this.#cookie = (this.#cookie + 1) >>> 0;
    while (this.#waiting.has(this.#cookie));
    return this.#cookie;
  }

  #read(bytes: Buffer): true {
    try {
      this.#receive(bytes);
    } catch (error) {
      this.#lose(error instanceof DiskError ? error : fromErrno(`use ${this.#label}`, error));
    }
    return true;
  }

  /** The socket's bytes for a handshake that waits for them piece by piece. `rest` is what it left. */
  #channel(tls: ClientTls | undefined, timeoutMs: number): { channel: Channel; rest: () => Buffer } {
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
    const send = (bytes: Uint8Array) => void this.#stream.write(bytes);
    const encrypt = async () => {
      // What came in the clear must not be taken for a part of the encrypted conversation.
      if (input.length > 0)
        throw new DiskError("PROTOCOL", `Cannot use ${this.#label}: the server spoke on in the clear after STARTTLS`);
      await this.#encrypt(tls!, timeoutMs);
    };
    return { channel: { send, receive, ...(tls ? { encrypt } : {}) }, rest: () => input };
  }

  async #encrypt(tls: ClientTls, timeoutMs: number): Promise<void> {
    this.#plain.off("data", this.#onData);
    const stream = await encryptClientSide(this.#plain, tls, this.#label);
    this.#plain.setTimeout(0);
    this.#stream = stream;
    this.#watch(stream, timeoutMs);
    stream.on("close", () => this.#plain.destroy());
    stream.on("data", this.#onData);
  }

  #begin(rest: Buffer, silenceMs: number): void {
    const events = {
      find: (high: number, low: number) => (high === 0 ? this.#waiting.get(low)?.request : undefined),
      done: (request: PendingRequest, cookie: number) => this.#done(request, cookie),
    };
    const parser = new ReplyParser(events, this.#agreement, this.#label);
    const io = this.#stream === this.#plain ? streamIo() : null;
    this.#receive = (bytes) => {
      parser.receive(bytes);
      if (io) this.#receiveDirectly(io, parser);
    };
    this.#onLost = () => {};
    this.#stream.setTimeout(silenceMs);
    if (rest.length > 0) this.#read(rest);
  }

  /** What else has come of a long read's data, without a copy between. The socket tells of the end and of errors by itself. */
  #receiveDirectly(io: StreamIo, parser: ReplyParser): void {
    const fd = descriptorOf(this.#plain);
    for (let taken = 0; fd !== null && taken < DIRECT_MOST; ) {
      const { sink } = parser;
      const count = sink && sink.length >= DIRECT_FROM ? io.receive(fd, sink) : 0;
      if (count <= 0) return;
      taken += count;
      parser.sunk(count);
    }
  }

  #done(request: PendingRequest, cookie: number): void {
    const { resolve, reject } = this.#waiting.get(cookie)!;
    this.#waiting.delete(cookie);
    this.#answered++;
    if (request.errno === 0) resolve(request);
    else reject(this.#refused(request));
  }

  #refused({ type, offset, length, errno, message }: PendingRequest): DiskError {
    const where = type === CMD.FLUSH ? "all bytes" : `bytes ${offset}..${offset + length}`;
    return fromNbdErrno(errno, VERBS[type] ?? "use", this.#label, where, message);
  }

  #silent(timeoutMs: number): void {
    if (this.#closing) return void this.#destroy();
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
    this.#destroy();
    this.#onLost(error);
    const unanswered = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#whenLost(error, unanswered);
  }
}

function writeU64(block: Buffer, value: number, at: number): void {
  block.writeUInt32BE(Math.floor(value / 2 ** 32), at);
  block.writeUInt32BE(value % 2 ** 32, at + 4);
}
