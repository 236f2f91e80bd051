/** Calls between the daemon's main thread and its worker threads: plain messages, answered by id, errors kept typed. */
import { type MessagePort, receiveMessageOnPort, type Worker } from "node:worker_threads";
import { DiskError, type ErrorCode, type ErrorDetails } from "../errors.js";

/** Either end of a thread's channel. */
export type RpcPort = Pick<MessagePort | Worker, "postMessage" | "on">;

export type RpcMethods = Record<string, (params: never) => unknown>;

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: unknown;
  readonly result?: unknown;
  readonly error?: PlainError;
}

/** An error as plain data, for messages and for the control API. */
export interface PlainError {
  readonly code: ErrorCode | "INTERNAL";
  readonly message: string;
  readonly details: ErrorDetails;
}

export function plainError(error: unknown): PlainError {
  if (error instanceof DiskError) return { code: error.code, message: error.message, details: error.details };
  return { code: "INTERNAL", message: error instanceof Error ? error.message : String(error), details: {} };
}

export function revivedError(error: PlainError): Error {
  return error.code === "INTERNAL"
    ? new Error(error.message)
    : new DiskError(error.code, error.message, { details: error.details });
}

/** Calls the other side. After `failAll` every call, also one under way, is rejected. */
export class RpcClient {
  readonly #port: RpcPort;
  readonly #afterSend: () => void;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #next = 1;
  #failure: Error | undefined;

  /** `afterSend` wakes a thread that blocks on something other than messages. */
  constructor(port: RpcPort, afterSend: () => void = () => {}) {
    this.#port = port;
    this.#afterSend = afterSend;
    port.on("message", (message: Message) => {
      if (message.method !== undefined || message.id === undefined) return;
      const call = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if (message.error) call?.reject(revivedError(message.error));
      else call?.resolve(message.result);
    });
  }

  call<T>(method: string, params: unknown = {}): Promise<T> {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.#port.postMessage({ id, method, params });
      this.#afterSend();
    });
  }

  failAll(reason: Error): void {
    this.#failure = reason;
    for (const call of this.#waiting.values()) call.reject(reason);
    this.#waiting.clear();
  }
}

/** Answers the other side's calls; each runs as soon as it arrives, inside `around` when that is given. */
export class RpcServer {
  readonly #port: RpcPort;
  readonly #methods: RpcMethods;
  readonly #around: (run: () => unknown) => Promise<unknown>;

  constructor(
    port: RpcPort,
    methods: RpcMethods,
    around: (run: () => unknown) => Promise<unknown> = async (run) => run(),
  ) {
    this.#port = port;
    this.#methods = methods;
    this.#around = around;
    port.on("message", (message: Message) => void this.#answer(message));
  }

  /** Handles what is waiting at its own port without the event loop's help; true when there was something. */
  takeMessages(port: MessagePort): boolean {
    let taken = false;
    for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
      taken = true;
      void this.#answer(next.message as Message);
    }
    return taken;
  }

  async #answer({ id, method, params }: Message): Promise<void> {
    if (method === undefined) return;
    try {
      const handler = Object.hasOwn(this.#methods, method) ? this.#methods[method] : undefined;
      if (!handler) throw new Error(`there is no method ${method}`);
      this.#port.postMessage({ id, result: await this.#around(() => handler(params as never)) });
    } catch (error) {
      this.#port.postMessage({ id, error: plainError(error) });
    }
  }
}
