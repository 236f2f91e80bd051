/** One client whose socket a thread drives: what its transmission phase reads and writes, without waiting anywhere. */
import { AGAIN, BROKEN, READABLE, type StreamIo, WRITABLE } from "../os/stream-io.js";
import type { BufferPool } from "./buffer-pool.js";
import type { Session } from "./handshake.js";
import { withoutBytes } from "./socket.js";
import { Transmission, type TransmissionLimits } from "./transmission.js";

export interface ThreadConnectionEvents {
  /** There are replies to flush when what came in together has been answered. */
  schedule(flush: () => void): void;
  failed(error: unknown): void;
  /** The descriptor is closed and nothing is in flight any more. */
  ended(): void;
}

export interface ThreadConnectionOptions {
  readonly io: StreamIo;
  /** The connection's own: closed at its end. */
  readonly fd: number;
  readonly session: Session;
  readonly limits: TransmissionLimits;
  readonly pool: BufferPool;
  /** How long a client may take to read its last replies. */
  readonly lingerMs: number;
}

interface Unsent {
  parts: readonly Uint8Array[];
  readonly sent: () => void;
}

/** Replies that the kernel keeps for the client: with less, long reads wait for each other. */
const SEND_BUFFER = 512 << 10;
const RECEIVE_SIZE = 256 << 10;

export class ThreadConnection {
  readonly #io: StreamIo;
  readonly #fd: number;
  readonly #lingerMs: number;
  readonly #events: ThreadConnectionEvents;
  readonly #transmission: Transmission;
  #buffer: Buffer = Buffer.allocUnsafeSlow(RECEIVE_SIZE);
  #unsent: Unsent[] = [];
  #paused = false;
  /** Nothing more is read. */
  #finished = false;
  /** Closes when all is sent. */
  #ending = false;
  #closed = false;
  #linger: NodeJS.Timeout | undefined;

  constructor({ io, fd, session, limits, pool, lingerMs }: ThreadConnectionOptions, events: ThreadConnectionEvents) {
    this.#io = io;
    this.#fd = fd;
    io.growSendBuffer(fd, SEND_BUFFER);
    this.#lingerMs = lingerMs;
    this.#events = events;
    this.#transmission = new Transmission(session, limits, pool, {
      send: (parts, sent) => this.#send(parts, sent),
      schedule: (flush) => events.schedule(flush),
      pause: () => (this.#paused = true),
      resume: () => (this.#paused = false),
      end: (polite) => this.#end(polite),
      failed: (error) => events.failed(error),
    });
  }

  get fd(): number {
    return this.#fd;
  }

  get inFlight(): number {
    return this.#transmission.inFlight;
  }

  get wrote(): boolean {
    return this.#transmission.wrote;
  }

  /** What to wait for on the descriptor; 0 for nothing. */
  get interest(): number {
    if (this.#closed) return 0;
    return (this.#paused || this.#finished ? 0 : READABLE) | (this.#unsent.length > 0 ? WRITABLE : 0);
  }

  /** The bytes that came before the thread took the socket over. */
  begin(rest: Buffer): void {
    if (rest.length > 0) this.#transmission.receive(rest);
  }

  ready(events: number): void {
    if ((events & (WRITABLE | BROKEN)) !== 0 && this.#unsent.length > 0) this.#drain();
    if ((events & (READABLE | BROKEN)) !== 0 && !this.#paused && !this.#finished && !this.#closed) this.#receive();
  }

  /** Takes no further request, lets those in flight end, and closes. */
  async finish(): Promise<void> {
    if (this.#finished) return;
    this.#finished = true;
    await this.#transmission.stop();
    this.#end(true);
  }

  /** At once, whatever was not sent. */
  drop(): void {
    this.#end(false);
  }

  #receive(): void {
    // What is still in use of the last bytes stays where it is.
    if (!this.#transmission.isClean) this.#buffer = Buffer.allocUnsafeSlow(RECEIVE_SIZE);
    const count = this.#io.receive(this.#fd, this.#buffer);
    if (count > 0) this.#transmission.receive(this.#buffer.subarray(0, count));
    else if (count === 0) void this.finish();
    else if (count !== AGAIN) this.drop();
  }

  #send(parts: readonly Uint8Array[], sent: () => void): void {
    this.#unsent.push({ parts, sent });
    if (this.#unsent.length === 1) this.#drain();
  }

  #drain(): void {
    for (let first = this.#unsent[0]; first && !this.#closed; first = this.#unsent[0]) {
      const count = this.#io.send(this.#fd, first.parts);
      if (count === AGAIN) return;
      if (count < 0) return void this.#end(false);
      first.parts = withoutBytes(first.parts, count);
      if (first.parts.length > 0) continue;
      this.#unsent.shift();
      first.sent();
    }
    if (this.#ending) this.#close();
  }

  #end(polite: boolean): void {
    if (this.#closed) return;
    this.#finished = this.#ending = true;
    if (polite && this.#unsent.length > 0) this.#linger ??= setTimeout(() => this.drop(), this.#lingerMs);
    else this.#close();
  }

  /** The peer sees the end at once, also while the thread that accepted it has the socket open. */
  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#linger);
    this.#io.shutdown(this.#fd);
    this.#io.close(this.#fd);
    for (const { sent } of this.#unsent.splice(0)) sent();
    void this.#transmission.stop().then(() => this.#events.ended());
  }
}
