/**
 * A connection that outlives its sockets: when one is lost, another is made, and what was not answered is sent again in its old order.
 * Attempts are bounded, with growing pauses; a reply starts the count anew. What a server did with an unanswered write is unknown, and
 * writing the same again does no harm. An export that came back different is an error: it is not the disk that was being written.
 */
import { DiskError } from "../errors.js";
import { ClientConnection, type ConnectionOptions, type ServerAddress, type Waiting } from "./client-connection.js";
import type { Agreement } from "./client-handshake.js";
import { PendingRequest } from "./reply-parser.js";

export interface Reconnect {
  /** Tries without a reply in between before everybody who waits is told; 0: none. */
  readonly attempts: number;
  /** Before the first try; each pause after it is twice as long, up to 5 seconds. */
  readonly firstDelayMs: number;
}

const MAX_DELAY_MS = 5000;
/** What must be the same on the next connection. The ids of contexts may differ. */
const FACTS = ["size", "flags", "blockSize", "maximumPayload", "structuredReplies", "extendedHeaders"] as const;

export class ClientLink {
  readonly #address: ServerAddress;
  readonly #options: ConnectionOptions;
  readonly #reconnect: Reconnect;
  readonly #agreement: Agreement;
  #connection: ClientConnection | undefined;
  /** Requests that wait for a connection. */
  #queue: Waiting[] = [];
  #failures = 0;
  #pause: { readonly timer: NodeJS.Timeout; readonly end: () => void } | undefined;
  /** Resolves when an attempt to connect again has come to its end. */
  #restoring: Promise<void> = Promise.resolve();
  #closed = false;
  #dead: DiskError | undefined;

  static async open(address: ServerAddress, options: ConnectionOptions, reconnect: Reconnect): Promise<ClientLink> {
    return new ClientLink(await ClientConnection.open(address, options), address, options, reconnect);
  }

  private constructor(
    first: ClientConnection,
    address: ServerAddress,
    options: ConnectionOptions,
    reconnect: Reconnect,
  ) {
    this.#address = address;
    this.#options = options;
    this.#reconnect = reconnect;
    this.#agreement = first.agreement;
    this.#use(first);
  }

  get agreement(): Agreement {
    return this.#agreement;
  }

  get inFlight(): number {
    return this.#connection?.inFlight ?? this.#queue.length;
  }

  /** Resolves with the complete and checked reply. The buffer stays the link's until then. */
  request(type: number, offset: number, length: number, buffer?: Uint8Array, flags = 0): Promise<PendingRequest> {
    return new Promise((resolve, reject) => {
      const waiting = { request: new PendingRequest(type, offset, length, buffer, flags), resolve, reject };
      if (this.#dead) reject(this.#dead);
      else if (this.#connection) this.#connection.send(waiting);
      else this.#queue.push(waiting);
    });
  }

  /** Lets the replies still to come arrive; ends an attempt to connect again. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#pause?.end();
    await this.#restoring;
    await this.#connection?.close();
  }

  #use(connection: ClientConnection): void {
    this.#connection = connection;
    connection.whenLost((error, unanswered) => this.#lose(connection, error, unanswered));
  }

  #lose(connection: ClientConnection, error: DiskError, unanswered: readonly Waiting[]): void {
    if (connection.answered > 0) this.#failures = 0;
    this.#connection = undefined;
    // Sent before anything that was queued since.
    this.#queue = [...unanswered, ...this.#queue];
    if (this.#closed && unanswered.length === 0) this.#dead = error;
    // A server that broke the protocol would break it again.
    else if (this.#closed || error.code === "PROTOCOL") this.#giveUp(error);
    else this.#restoring = this.#restore(error);
  }

  async #restore(lost: DiskError): Promise<void> {
    let last = lost;
    while (this.#failures < this.#reconnect.attempts) {
      await this.#wait(Math.min(this.#reconnect.firstDelayMs * 2 ** this.#failures, MAX_DELAY_MS));
      if (this.#closed) break;
      this.#failures++;
      try {
        const connection = await ClientConnection.open(this.#address, this.#options);
        return this.#resume(connection);
      } catch (error) {
        last = error as DiskError;
        if (last.code === "PROTOCOL") break;
      }
    }
    this.#giveUp(this.#failures === 0 ? lost : outOfAttempts(lost, this.#failures, last));
  }

  #resume(connection: ClientConnection): void {
    const changed = difference(this.#agreement, connection.agreement);
    if (changed) {
      void connection.close();
      const text = `Cannot use ${this.#address.label}: the export changed while the connection was lost, ${changed}`;
      return void this.#giveUp(new DiskError("PROTOCOL", text));
    }
    const queue = this.#queue.splice(0);
    this.#use(connection);
    for (const waiting of queue) {
      waiting.request.reset();
      if (this.#connection === connection) connection.send(waiting);
      else this.#queue.push(waiting);
    }
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(this.#pause?.timer);
        this.#pause = undefined;
        resolve();
      };
      this.#pause = { timer: setTimeout(end, ms), end };
    });
  }

  #giveUp(error: DiskError): void {
    this.#dead = error;
    for (const { reject } of this.#queue.splice(0)) reject(error);
  }
}

function outOfAttempts(lost: DiskError, attempts: number, cause: DiskError): DiskError {
  const times = attempts === 1 ? "an attempt" : `${attempts} attempts`;
  return new DiskError("IO", `${lost.message}, and ${times} to connect again failed`, { cause });
}

function difference(before: Agreement, now: Agreement): string | undefined {
  const fact = FACTS.find((name) => before[name] !== now[name]);
  if (fact) return `its ${fact} was ${before[fact]} and is ${now[fact]}`;
  const [had, has] = [before, now].map(({ allocationContext }) => allocationContext !== undefined);
  return had === has ? undefined : `base:allocation is ${has ? "new" : "gone"}`;
}
