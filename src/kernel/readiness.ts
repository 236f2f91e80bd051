/** Waiting for a FUSE connection without blocking: a thread of its own polls it, only while it is armed, and tells once. */
import { Worker } from "node:worker_threads";
import {
  type CloseWatch,
  closeEventDescriptor,
  makeEventDescriptor,
  raiseEvent,
  watchWriters,
} from "../os/readiness.js";
import { READINESS, type ReadinessEvent, type ReadinessThreadData } from "./readiness-words.js";

export interface ReadinessOptions {
  /** Descriptor of the FUSE connection; to be closed only after `stop`. */
  readonly connection: number;
  /** The connection had something to read after it was armed. */
  onReadable(): void;
  /** Somebody who had a watched file open for writing has closed it. */
  onWriterClosed(): void;
  /** Nobody waits any more. */
  onFailure(message: string): void;
}

export class Readiness {
  readonly #state = new Int32Array(new SharedArrayBuffer(4));
  readonly #signal: number;
  readonly #writers: CloseWatch;
  readonly #worker: Worker;
  readonly #exited: Promise<void>;

  constructor(options: ReadinessOptions) {
    this.#writers = watchWriters();
    this.#signal = makeEventDescriptor();
    const workerData: ReadinessThreadData = {
      state: this.#state,
      connection: options.connection,
      writers: this.#writers.fd,
      signal: this.#signal,
    };
    this.#worker = new Worker(new URL("./readiness-thread.js", import.meta.url), {
      workerData,
      name: "fuse",
      execArgv: [], // of a program given on the command line, for one, nothing is meant for it
    });
    this.#worker.unref();
    this.#worker.on("message", (event: ReadinessEvent) => {
      if (event === "readable") options.onReadable();
      else options.onWriterClosed();
    });
    this.#worker.on("error", (error) => options.onFailure(error.message));
    this.#exited = new Promise((resolve) => this.#worker.once("exit", () => resolve()));
  }

  /** Asks to be told once. */
  arm(): void {
    if (Atomics.compareExchange(this.#state, 0, READINESS.idle, READINESS.armed) === READINESS.idle)
      raiseEvent(this.#signal);
  }

  /** Its writers are told of from now on. */
  watch(path: string): void {
    this.#writers.add(path);
  }

  /** Resolves when the thread has gone. */
  async stop(): Promise<void> {
    if (Atomics.exchange(this.#state, 0, READINESS.stopped) !== READINESS.stopped) raiseEvent(this.#signal);
    this.#worker.ref();
    await this.#exited;
    this.#writers.close();
    closeEventDescriptor(this.#signal);
  }
}
