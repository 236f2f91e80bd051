/** One client of the server: its socket, and the handshake or transmission that the socket's bytes belong to. */
import type { Socket } from "node:net";
import type { BufferPool } from "./buffer-pool.js";
import type { ExportSource } from "./exports.js";
import { Handshake, type Session } from "./handshake.js";
import { KEEP_ALIVE_MS, sendParts } from "./socket.js";
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
  /** Hears of errors that the client was told only by a number. */
  failed(error: unknown): void;
}

export class ServerConnection {
  readonly #socket: Socket;
  readonly #failed: (error: unknown) => void;
  readonly #limits: ConnectionLimits;
  readonly #pool: BufferPool;
  #handshake: Handshake | undefined;
  #transmission: Transmission | undefined;
  #session: Session | undefined;
  #deadline: NodeJS.Timeout | undefined;
  /** Resolves when the socket is closed and nothing of it is in flight in the device any more. */
  readonly closed: Promise<void>;

  constructor(socket: Socket, { exports, limits, pool, failed }: ConnectionContext) {
    this.#socket = socket;
    this.#failed = failed;
    this.#limits = limits;
    this.#pool = pool;
    this.#handshake = new Handshake(exports, {
      send: (bytes) => void socket.write(bytes),
      done: (session, rest) => this.#begin(session, rest),
      end: (polite) => this.#end(polite),
      failed,
    });
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#setDeadline();
    socket.on("data", (chunk: Buffer) => (this.#transmission ?? this.#handshake)?.receive(chunk));
    // A client that only ends its half still gets the replies to what it asked.
    socket.on("end", () => void this.finish());
    socket.on("error", () => socket.destroy()); // "close" follows, and says all there is to say
    this.closed = new Promise<void>((resolve) => socket.on("close", () => resolve())).then(() => {
      clearTimeout(this.#deadline);
      return this.#transmission?.stop();
    });
    this.#handshake.start();
  }

  get session(): Session | undefined {
    return this.#session;
  }

  get wrote(): boolean {
    return this.#transmission?.wrote ?? false;
  }

  /** Takes no further request, lets those in flight end, and closes the connection. */
  async finish(): Promise<void> {
    this.#socket.pause();
    await this.#transmission?.stop();
    this.#end(true);
  }

  /** Whole, not since the last byte: a client that sends one byte now and then is cut off as well. */
  #setDeadline(): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#socket.destroy(), this.#limits.handshakeTimeoutMs);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #begin(session: Session, rest: Buffer): void {
    const socket = this.#socket;
    clearTimeout(this.#deadline);
    this.#session = session;
    this.#handshake = undefined;
    this.#transmission = new Transmission(session, this.#limits, this.#pool, {
      send: (parts, sent) => sendParts(socket, parts, sent),
      // After all sockets that are readable now were read: their replies share a write, and nobody waits longer for it.
      schedule: (flush) => void setImmediate(flush),
      pause: () => void socket.pause(),
      resume: () => void socket.resume(),
      end: (polite) => this.#end(polite),
      failed: this.#failed,
    });
    if (rest.length > 0) this.#transmission.receive(rest);
  }

  #end(polite: boolean): void {
    const socket = this.#socket;
    if (!polite) return void socket.destroy();
    this.#setDeadline(); // for a client that never takes its last replies
    socket.end(() => socket.destroy()); // what the client still sends is of no interest
  }
}
