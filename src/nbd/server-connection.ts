/** One client of the server: its socket, and the handshake or transmission that the socket's bytes belong to. */
import type { Socket } from "node:net";
import { type Peer, peerOf } from "../os/peer.js";
import { streamIo } from "../os/stream-io.js";
import type { BufferPool } from "./buffer-pool.js";
import type { ExportSource } from "./exports.js";
import { type Encryption, Handshake, type Session } from "./handshake.js";
import { encryptServerSide, type ServerTls } from "./server-tls.js";
import { descriptorOf, KEEP_ALIVE_MS, sendParts, sendPartsNow } from "./socket.js";
import type { DrivenSocket, SocketThreads } from "./socket-threads.js";
import { Transmission, type TransmissionLimits } from "./transmission.js";

export interface ConnectionLimits extends TransmissionLimits {
  /** The longest that a handshake may take, and the sending of the last replies. */
  readonly handshakeTimeoutMs: number;
}

/** What the connections of one server have in common. */
export interface ConnectionContext {
  readonly exports: ExportSource;
  readonly limits: ConnectionLimits;
  readonly pool: BufferPool;
  /** Undefined: no TLS. */
  readonly tls: ServerTls | undefined;
  readonly threads: SocketThreads;
  /** Hears of errors that the client was told only by a number. */
  failed(error: unknown): void;
}

const RECEIVE_SIZE = 128 << 10;

export class ServerConnection {
  readonly #plain: Socket;
  readonly #context: ConnectionContext;
  /** What the protocol is spoken on: the plain socket, or the encrypted one over it. */
  #stream: Socket;
  #handshake: Handshake | undefined;
  #transmission: Transmission | undefined;
  #session: Session | undefined;
  /** The socket, when a thread drives it. */
  #driven: DrivenSocket | undefined;
  #wrote = false;
  #buffer: Buffer = Buffer.alloc(0);
  #finishing = false;
  #deadline: NodeJS.Timeout | undefined;
  readonly #onData = (chunk: Buffer) => (this.#transmission ?? this.#handshake)?.receive(chunk);
  /** A client that only ends its half still gets the replies to what it asked. */
  readonly #onEnd = () => void this.finish();
  /** Resolves when the socket is closed and nothing of it is in flight in the device any more. */
  readonly closed: Promise<void>;

  constructor(socket: Socket, context: ConnectionContext) {
    this.#plain = this.#stream = socket;
    this.#context = context;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on("error", () => socket.destroy()); // "close" follows, and says all there is to say
    this.#setDeadline();
    this.closed = new Promise<void>((resolve) => socket.on("close", () => resolve())).then(() => {
      clearTimeout(this.#deadline);
      return this.#transmission?.stop();
    });
    const { tls } = context;
    this.#negotiate(!tls ? "none" : (tls.required ?? true) ? "required" : "optional");
    this.#handshake!.start();
  }

  get session(): Session | undefined {
    return this.#session;
  }

  /** The process at the other end of a unix socket, also while a thread drives it; null when it cannot be told. */
  get peer(): Peer | null {
    const fd = this.#plain.remoteAddress === undefined ? descriptorOf(this.#plain) : null;
    return fd === null ? null : peerOf(fd);
  }

  get wrote(): boolean {
    return this.#wrote || (this.#transmission?.wrote ?? false);
  }

  /** Takes in what the client has sent, without the event loop. False when there is nothing, or it cannot be had that way. */
  takeRequests(): boolean {
    const transmission = this.#transmission;
    const io = streamIo();
    if (!transmission || !io || this.#stream !== this.#plain || this.#plain.isPaused() || this.#finishing) return false;
    const fd = descriptorOf(this.#plain);
    if (fd === null) return false;
    if (!transmission.isClean || this.#buffer.length === 0) this.#buffer = Buffer.allocUnsafeSlow(RECEIVE_SIZE);
    const count = io.receive(fd, this.#buffer);
    if (count <= 0) return false; // the event loop hears of an end or an error by itself
    transmission.receive(this.#buffer.subarray(0, count));
    return true;
  }

  /** Takes no further request, lets those in flight end, and closes the connection. */
  async finish(): Promise<void> {
    this.#finishing = true;
    if (this.#driven) return this.#driven.finish();
    this.#stream.pause();
    await this.#transmission?.stop();
    this.#end(true);
  }

  /** Whole, not since the last byte: a client that sends one byte now and then is cut off as well. */
  #setDeadline(): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.destroy(), this.#context.limits.handshakeTimeoutMs);
  }

  destroy(): void {
    if (this.#driven) return void this.#driven.drop();
    this.#stream.destroy();
    this.#plain.destroy();
  }

  #negotiate(encryption: Encryption, afterTls?: number): void {
    const stream = this.#stream;
    const events = {
      send: (bytes: Uint8Array) => void stream.write(bytes),
      done: (session: Session, rest: Buffer) => this.#begin(session, rest),
      startTls: (clientFlags: number) => void this.#startTls(clientFlags),
      end: (polite: boolean) => this.#end(polite),
      failed: this.#context.failed,
    };
    this.#handshake = new Handshake(this.#context.exports, encryption, events, afterTls);
    stream.on("data", this.#onData).on("end", this.#onEnd);
  }

  /** A client that fails at TLS is gone; nobody else has to hear of it. */
  async #startTls(clientFlags: number): Promise<void> {
    this.#handshake = undefined;
    this.#plain.off("data", this.#onData).off("end", this.#onEnd).pause();
    try {
      const stream = await encryptServerSide(this.#plain, this.#context.tls!);
      this.#stream = stream;
      stream.on("error", () => stream.destroy());
      stream.on("close", () => this.#plain.destroy());
      this.#negotiate("done", clientFlags);
    } catch {
      this.#plain.destroy();
    }
  }

  #begin(session: Session, rest: Buffer): void {
    clearTimeout(this.#deadline);
    this.#session = session;
    this.#handshake = undefined;
    if (this.#stream !== this.#plain) return void this.#transmit(session, rest);
    this.#plain.pause();
    void this.#place(session, rest);
  }

  /** To a thread where one can serve the export, else here. */
  async #place(session: Session, rest: Buffer): Promise<void> {
    const { threads, failed } = this.#context;
    const window = await threads.windowOf(session.export).catch(failed);
    if (window) await new Promise((resolve) => this.#plain.write("", resolve)); // the handshake's last reply has left
    if (this.#finishing || this.#plain.destroyed) return;
    this.#plain.off("data", this.#onData).off("end", this.#onEnd);
    const driven = window ? threads.drive(this.#plain, window, session, rest) : null;
    if (driven) return this.#follow(driven);
    this.#plain.on("data", this.#onData).on("end", this.#onEnd);
    this.#transmit(session, rest);
    this.#plain.resume();
  }

  async #follow(driven: DrivenSocket): Promise<void> {
    this.#driven = driven;
    this.#wrote = await driven.ended;
    this.#plain.destroy();
  }

  #transmit(session: Session, rest: Buffer): void {
    const stream = this.#stream;
    const { limits, pool, failed } = this.#context;
    const io = stream === this.#plain ? streamIo() : null;
    this.#transmission = new Transmission(session, limits, pool, {
      send: (parts, sent) => (io ? sendPartsNow(io, stream, parts, sent) : sendParts(stream, parts, sent)),
      // After what ends now has ended: its replies share a write. One that costs more waits for all sockets that are readable now.
      schedule: (flush) => void (io ? queueMicrotask(flush) : setImmediate(flush)),
      pause: () => void stream.pause(),
      resume: () => void stream.resume(),
      end: (polite) => this.#end(polite),
      failed,
    });
    if (rest.length > 0) this.#transmission.receive(rest);
  }

  #end(polite: boolean): void {
    const stream = this.#stream;
    if (!polite) return void stream.destroy();
    this.#setDeadline(); // for a client that never takes its last replies
    stream.end(() => stream.destroy()); // what the client still sends is of no interest
  }
}
