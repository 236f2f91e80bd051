/** The client's end of a byte stream: requests go out at once, replies find their request by its number, events come between. */
import { DiskError } from "../../errors.js";
import type { Transport } from "./transport.js";
import { encodeMessage, MESSAGE_TYPES, type Message, type MessageName, MessageParser, PAYLOAD_MAX } from "./wire.js";
import { parseErrno, xenstoreError } from "./xenstore-error.js";

export interface OutgoingRequest {
  readonly name: MessageName;
  /** For messages: `Cannot <what>: …`. */
  readonly what: string;
  /** Each goes out with a NUL behind it. */
  readonly strings: readonly string[];
  /** Raw bytes behind the strings. */
  readonly value?: Uint8Array;
  /** Transaction; default none. */
  readonly txId?: number;
}

interface Pending {
  readonly what: string;
  readonly type: number;
  resolve(payload: Uint8Array): void;
  reject(error: Error): void;
}

export class RequestChannel {
  readonly #transport: Transport;
  readonly #onEvent: (payload: Uint8Array) => void;
  readonly #parser = new MessageParser();
  readonly #pending = new Map<number, Pending>();
  #lastRequest = 0;
  #closed: DiskError | undefined;

  /** The transport is the channel's from now on. `onEvent` gets the payload of each watch event. */
  constructor(transport: Transport, onEvent: (payload: Uint8Array) => void) {
    this.#transport = transport;
    this.#onEvent = onEvent;
    transport.onReceive((bytes) => this.#receive(bytes));
    transport.onClose((reason) => this.#end(reason));
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** The reply's payload. Rejects with the store's error, or with `IO` when the connection is gone before the reply. */
  request({ name, what, strings, value, txId = 0 }: OutgoingRequest): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw this.#closed;
      if (strings.some((text) => text.includes("\0"))) throw xenstoreError("EINVAL", what.replaceAll("\0", "\\0"));
      const head = Buffer.from(strings.map((text) => `${text}\0`).join(""), "utf8");
      const payload = value ? Buffer.concat([head, value]) : head;
      if (payload.length > PAYLOAD_MAX) throw xenstoreError("E2BIG", what);
      const type = MESSAGE_TYPES[name];
      const reqId = this.#newRequestId();
      this.#pending.set(reqId, { what, type, resolve, reject });
      this.#transport.send(encodeMessage({ type, reqId, txId, payload }));
    });
  }

  /** Idempotent. What still waits for a reply is rejected. */
  close(): void {
    this.#end();
    this.#transport.close();
  }

  #newRequestId(): number {
    do {
      this.#lastRequest = (this.#lastRequest + 1) >>> 0 || 1;
    } while (this.#pending.has(this.#lastRequest));
    return this.#lastRequest;
  }

  #receive(bytes: Uint8Array): void {
    let message = this.#guarded(() => {
      this.#parser.push(bytes);
      return this.#parser.next();
    });
    while (message && !this.#closed) {
      const current = message;
      if (current.type === MESSAGE_TYPES.WATCH_EVENT) this.#onEvent(current.payload);
      else this.#guarded(() => this.#settle(current));
      message = this.#guarded(() => this.#parser.next());
    }
  }

  /** What a peer's bytes can make fail: then the stream means nothing any more, and the connection ends. */
  #guarded<T>(run: () => T): T | undefined {
    try {
      return run();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      this.#end(error);
      this.#transport.close();
      return undefined;
    }
  }

  #settle({ reqId, type, payload }: Message): void {
    const pending = this.#pending.get(reqId);
    if (!pending) throw new DiskError("PROTOCOL", `Cannot read xenstore reply: nothing waits for request ${reqId}`);
    this.#pending.delete(reqId);
    if (type === pending.type) pending.resolve(payload);
    else if (type === MESSAGE_TYPES.ERROR) pending.reject(xenstoreError(errnoIn(payload), pending.what));
    else {
      const text = `Cannot ${pending.what}: the reply's type is ${type}, allowed ${pending.type}`;
      pending.reject(new DiskError("PROTOCOL", text));
    }
  }

  #end(reason?: DiskError): void {
    if (this.#closed) return;
    this.#closed = new DiskError("IO", "Cannot talk to xenstore: the connection is closed", { cause: reason });
    for (const { what, reject } of this.#pending.values())
      reject(new DiskError("IO", `Cannot ${what}: the connection to xenstore is closed`, { cause: reason }));
    this.#pending.clear();
  }
}

function errnoIn(payload: Uint8Array) {
  return parseErrno(Buffer.from(payload).toString("latin1").replace(/\0.*$/s, ""));
}
