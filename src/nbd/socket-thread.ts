/**
 * Entry of a thread that drives the sockets of NBD clients itself: it waits for all of them in one call, takes in what came, and sends
 * the replies of one round in one call for each client. Requests are judged and executed by the same `Transmission` as on an event loop;
 * what is cached is answered within the round, what is not comes from the thread pool in a later one.
 */
import { type MessagePort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { READABLE, type StreamIo, streamIo, WaitSet } from "../os/stream-io.js";
import { BufferPool } from "./buffer-pool.js";
import { type FileWindow, openWindow } from "./file-window.js";
import type { Session } from "./handshake.js";
import { ThreadConnection } from "./thread-connection.js";
import type { TransmissionLimits } from "./transmission.js";

export interface SocketThreadData {
  readonly port: MessagePort;
  /** Rung after each message. */
  readonly doorbell: number;
  readonly limits: TransmissionLimits;
  readonly lingerMs: number;
}

export type ToSocketThread =
  | {
      readonly kind: "serve";
      readonly id: number;
      readonly fd: number;
      readonly window: FileWindow;
      readonly session: Omit<Session, "export">;
      readonly fastZero: boolean;
      readonly rest: Uint8Array;
    }
  | { readonly kind: "finish" | "drop"; readonly id: number }
  | { readonly kind: "exit" };

export type FromSocketThread =
  | { readonly kind: "ended"; readonly id: number; readonly wrote: boolean }
  | { readonly kind: "failed"; readonly error: Error };

const POOL_BYTES = 16 << 20;
/** A thread that waits for a socket cannot be ended from outside, so it never waits for long. */
const IDLE_MS = 250;
/** Turns of promises in which requests of cached bytes come to their end. */
const TICKS = 16;
const ROUNDS = 256;
/** Turns of the event loop that are spent on requests in the thread pool before the thread sleeps. */
const EAGER_TURNS = 4;

class SocketThread {
  readonly #io: StreamIo;
  readonly #data: SocketThreadData;
  readonly #pool = new BufferPool(POOL_BYTES);
  readonly #connections = new Map<number, ThreadConnection>();
  readonly #set = new WaitSet();
  #flushes: (() => void)[] = [];
  #wake: () => void = () => {};
  #exit = false;
  #turns = 0;
  #rounds = 0;

  constructor(io: StreamIo, data: SocketThreadData) {
    this.#io = io;
    this.#data = data;
  }

  async run(): Promise<void> {
    while (!this.#exit) {
      this.#flush();
      const waiting = this.#fill();
      const count = this.#io.wait(this.#set, this.#inFlight > 0 ? 0 : IDLE_MS);
      if (count > 0) {
        if (this.#set.ready(0) !== 0) this.#messages();
        for (const [i, connection] of waiting.entries()) {
          const events = this.#set.ready(i + 1);
          if (events !== 0) connection.ready(events);
        }
      }
      await this.#settle(count > 0);
    }
  }

  get #inFlight(): number {
    let sum = 0;
    for (const connection of this.#connections.values()) sum += connection.inFlight;
    return sum;
  }

  #fill(): ThreadConnection[] {
    this.#set.clear();
    this.#set.add(this.#data.doorbell, READABLE);
    const waiting: ThreadConnection[] = [];
    for (const connection of this.#connections.values()) {
      if (connection.interest === 0) continue;
      this.#set.add(connection.fd, connection.interest);
      waiting.push(connection);
    }
    return waiting;
  }

  /** Lets what can end now come to its end, and sends the replies; then the event loop has its turn when something needs it. */
  async #settle(active: boolean): Promise<void> {
    for (let tick = 0; tick < TICKS && this.#inFlight > 0; tick++) await undefined;
    this.#flush();
    if (this.#inFlight === 0) {
      this.#turns = 0;
      // Timers need the event loop now and then, also on a thread that is never idle.
      if (!active || ++this.#rounds % ROUNDS === 0) await turn();
    } else if (active || this.#turns++ < EAGER_TURNS) {
      if (active) this.#turns = 0;
      await turn();
    } else {
      await this.#completion();
    }
  }

  #flush(): void {
    if (this.#flushes.length > 0) for (const flush of this.#flushes.splice(0)) flush();
  }

  /** Resolves when a request has come to its end, or after a millisecond, since no socket is looked at meanwhile. */
  #completion(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, 1);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #messages(): void {
    this.#io.hush(this.#data.doorbell);
    for (;;) {
      const received = receiveMessageOnPort(this.#data.port) as { message: ToSocketThread } | undefined;
      if (!received) return;
      const { message } = received;
      if (message.kind === "serve") this.#serve(message);
      else if (message.kind === "finish") void this.#connections.get(message.id)?.finish();
      else if (message.kind === "drop") this.#connections.get(message.id)?.drop();
      else this.#exit = true;
    }
  }

  #serve({ id, fd, window, session, fastZero, rest }: Extract<ToSocketThread, { kind: "serve" }>): void {
    const { limits, lingerMs, port } = this.#data;
    const post = (message: FromSocketThread) => port.postMessage(message);
    const options = { io: this.#io, fd, limits, lingerMs, pool: this.#pool };
    const connection: ThreadConnection = new ThreadConnection(
      { ...options, session: { ...session, export: { ...openWindow(window), fastZero } } },
      {
        schedule: (flush) => {
          this.#flushes.push(flush);
          this.#wake();
        },
        failed: (error) => post({ kind: "failed", error: error as Error }),
        ended: () => {
          this.#connections.delete(id);
          post({ kind: "ended", id, wrote: connection.wrote });
        },
      },
    );
    this.#connections.set(id, connection);
    connection.begin(Buffer.from(rest));
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

await new SocketThread(streamIo()!, workerData as SocketThreadData).run();
(workerData as SocketThreadData).port.close();
