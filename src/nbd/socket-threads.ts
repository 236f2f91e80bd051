/**
 * The threads of a server that drive its clients' sockets (socket-thread.ts), seen from the thread that accepts them. A client comes here
 * after its handshake when it is not encrypted and its export is a window of a file; all others stay on the event loop.
 * Threads are started when first needed, at most as many as there are cores.
 */
import type { Socket } from "node:net";
import { availableParallelism } from "node:os";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { streamIo } from "../os/stream-io.js";
import type { Export } from "./exports.js";
import { type FileWindow, fileWindow } from "./file-window.js";
import type { Session } from "./handshake.js";
import { takeDescriptor } from "./socket.js";
import type { FromSocketThread, SocketThreadData, ToSocketThread } from "./socket-thread.js";
import type { TransmissionLimits } from "./transmission.js";

export interface DrivenSocket {
  /** Resolves with whether the client wrote, when its last request has left the device and the thread has closed its descriptor. */
  readonly ended: Promise<boolean>;
  /** Takes no further request, lets those in flight end, and closes. */
  finish(): void;
  drop(): void;
}

interface Thread {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly doorbell: number;
  readonly clients: Map<number, (wrote: boolean) => void>;
  readonly exited: Promise<void>;
}

export interface SocketThreadsOptions extends TransmissionLimits {
  readonly lingerMs: number;
  failed(error: unknown): void;
}

export class SocketThreads {
  readonly #options: SocketThreadsOptions;
  readonly #threads: Thread[] = [];
  readonly #windows = new WeakMap<Export, Promise<FileWindow | null>>();
  #nextId = 0;

  constructor(options: SocketThreadsOptions) {
    this.#options = options;
  }

  /** The file that an export is a window of, where a thread can serve it. */
  async windowOf(exported: Export): Promise<FileWindow | null> {
    if (!streamIo()) return null;
    let window = this.#windows.get(exported);
    if (!window) this.#windows.set(exported, (window = fileWindow(exported)));
    return window;
  }

  /**
   * The socket is paused, nobody listens to its data, it has nothing left to send, and it is not used until `ended`. `rest` was read from
   * it before. Null when it has no descriptor any more.
   */
  drive(socket: Socket, window: FileWindow, session: Session, rest: Buffer): DrivenSocket | null {
    const taken = takeDescriptor(socket);
    const copy = taken ? streamIo()!.duplicate(taken.fd) : -1;
    if (!taken || copy < 0) {
      if (taken && taken.rest.length > 0) socket.unshift(taken.rest);
      return null;
    }
    const thread = this.#leastBusy();
    const id = this.#nextId++;
    const { export: exported, ...agreed } = session;
    const ended = new Promise<boolean>((resolve) => thread.clients.set(id, resolve));
    thread.worker.ref(); // a socket that nobody here reads does not keep the process
    const fastZero = exported.fastZero ?? false;
    tell(thread, {
      kind: "serve",
      id,
      fd: copy,
      window,
      session: agreed,
      fastZero,
      rest: Buffer.concat([rest, taken.rest]),
    });
    return {
      ended,
      finish: () => tell(thread, { kind: "finish", id }),
      drop: () => tell(thread, { kind: "drop", id }),
    };
  }

  /** When all clients have ended. */
  async close(): Promise<void> {
    await Promise.all(
      this.#threads.splice(0).map(async (thread) => {
        thread.worker.ref();
        tell(thread, { kind: "exit" });
        await thread.exited;
        thread.port.close();
        streamIo()!.close(thread.doorbell);
      }),
    );
  }

  #leastBusy(): Thread {
    const least = this.#threads.reduce<Thread | undefined>(
      (best, one) => (best && best.clients.size <= one.clients.size ? best : one),
      undefined,
    );
    if (least && (least.clients.size === 0 || this.#threads.length >= availableParallelism())) return least;
    return this.#start();
  }

  #start(): Thread {
    const { port1, port2 } = new MessageChannel();
    const doorbell = streamIo()!.doorbell();
    const { lingerMs, bytesInFlight, requestsInFlight } = this.#options;
    const limits = { bytesInFlight, requestsInFlight };
    const workerData: SocketThreadData = { port: port2, doorbell, limits, lingerMs };
    const worker = new Worker(new URL("./socket-thread.js", import.meta.url), {
      workerData,
      transferList: [port2],
      name: `nbd-${this.#threads.length}`,
    });
    const clients: Thread["clients"] = new Map();
    const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
    const thread = { worker, port: port1, doorbell, clients, exited };
    worker.on("error", (error) => this.#died(thread, error));
    port1.on("message", (message: FromSocketThread) => {
      if (message.kind === "failed") return this.#options.failed(message.error);
      clients.get(message.id)?.(message.wrote);
      clients.delete(message.id);
      if (clients.size === 0) worker.unref();
    });
    port1.unref();
    worker.unref();
    this.#threads.push(thread);
    return thread;
  }

  /** A thread's own fault: its clients are lost, nobody else. */
  #died(thread: Thread, error: unknown): void {
    this.#threads.splice(this.#threads.indexOf(thread), 1);
    this.#options.failed(error);
    for (const ended of thread.clients.values()) ended(true);
    thread.clients.clear();
  }
}

function tell({ port, doorbell }: Thread, message: ToSocketThread): void {
  port.postMessage(message);
  streamIo()!.ring(doorbell);
}
