/**
 * One client's byte stream, seen from the store: requests are answered in order, watch events go out between replies.
 * What waits for a client that does not read is bounded, and no further request is looked at until it reads.
 */
import { DiskError } from "../../errors.js";
import type { Clock } from "./clock.js";
import { homeOf } from "./path.js";
import type { Caller } from "./permissions.js";
import type { Quotas } from "./quotas.js";
import type { MemoryAccount, Transaction } from "./transaction.js";
import type { Watch } from "./watches.js";
import { encodeMessage, joinStrings, MESSAGE_TYPES, type Message, MessageParser, PAYLOAD_MAX } from "./wire.js";

/**
 * Takes one whole message towards the client and must not call back into the store. `false`: taken, but send no more
 * until `resume()`. The bytes are the receiver's to keep.
 */
// biome-ignore lint/suspicious/noConfusingVoidType: a sender that is never full returns nothing.
export type Send = (message: Uint8Array) => boolean | void;

/** What a domain's connections share. `bytes`: of watches, transactions and messages that wait. */
export interface Account extends MemoryAccount {
  watches: number;
  transactions: number;
}

export interface ConnectionOptions {
  readonly caller: Caller;
  readonly account: Account;
  readonly send: Send;
  /** Answers one request by `reply`, at once. What it throws ends the connection. */
  readonly answer: (connection: Connection, message: Message) => void;
  /** Called once, when nothing more will be sent; with a reason when the store ended it, without when the client left. */
  readonly onEnd: (connection: Connection, reason?: DiskError) => void;
  readonly quotas: Quotas;
  readonly clock: Clock;
  /** Bytes that the store keeps for the domain, its nodes included. */
  readonly memory: () => number;
}

// Dom0 has no quota; a Dom0 client that never reads is cut off before it costs more than some megabytes.
const PENDING_EVENTS_DOM0 = 16_384;

interface Outgoing {
  readonly bytes: Uint8Array;
  /** Of a watch event: path and token. */
  readonly event?: string;
  /** Of a watch event to a guest: when it is dropped. */
  readonly expires?: number;
}

export class Connection {
  readonly caller: Caller;
  readonly home: string;
  readonly account: Account;
  /** By path and token. */
  readonly watches = new Map<string, Watch<Connection>>();
  readonly transactions = new Map<number, Transaction>();
  readonly #options: ConnectionOptions;
  readonly #parser = new MessageParser();
  readonly #waiting: Outgoing[] = [];
  readonly #waitingEvents = new Map<string, number>();
  /** Replies among what is waiting. */
  #waitingReplies = 0;
  #lostEvents = 0;
  #cancelExpiry: (() => void) | undefined;
  #cancelHold: (() => void) | undefined;
  #onAccepting: () => void = () => {};
  #nextTransaction = 1;
  #blocked = false;
  #working = false;
  #ended = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.caller = options.caller;
    this.account = options.account;
    this.home = homeOf(options.caller.domid);
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** The client does not read: give no more bytes to `receive` until `resume()`. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /**
   * Whether the next request is looked at: otherwise what `receive` gets is kept for later, up to 1 MiB. A guest may be
   * some replies behind; it waits while it is over its memory quota, or on hold.
   */
  get accepting(): boolean {
    if (this.#ended || this.#cancelHold) return false;
    if (this.caller.privileged) return !this.#blocked;
    const { quotas, memory } = this.#options;
    return this.#waitingReplies + (this.#blocked ? 1 : 0) < quotas.outstanding && memory() < quotas.memoryHard;
  }

  /** Called when a hold is over. */
  onAccepting(callback: () => void): void {
    this.#onAccepting = callback;
  }

  /** Looks at no request for `ms`. */
  hold(ms: number): void {
    this.#cancelHold?.();
    this.#cancelHold = this.#options.clock.after(ms, () => {
      this.#cancelHold = undefined;
      this.proceed();
      this.#onAccepting();
    });
  }

  /** Watch events that a client lost because it did not read. */
  get lostEvents(): number {
    return this.#lostEvents;
  }

  /** The next bytes of the client's stream, cut anywhere; they are not kept. Never throws: a bad stream ends this connection. */
  receive(bytes: Uint8Array): void {
    if (this.#ended) return;
    try {
      this.#parser.push(bytes);
    } catch (error) {
      this.end(asDiskError(error));
      return;
    }
    this.proceed();
  }

  /** The client reads again. */
  resume(): void {
    this.#blocked = false;
    this.#flush();
    this.proceed();
  }

  /** The client is gone. */
  close(): void {
    this.end();
  }

  end(reason?: DiskError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#cancelHold?.(); // a mere reset does not end a hold: the client may have asked for it
    this.#forget();
    this.#options.onEnd(this, reason);
  }

  /** As after INTRODUCE of a domain that is introduced already: what was half read or half sent is forgotten. */
  reset(): void {
    this.#forget();
    this.#blocked = false;
  }

  reply(request: Message, type: number, payload: Uint8Array): void {
    this.#send({ bytes: encodeMessage({ type, reqId: request.reqId, txId: request.txId, payload }) });
  }

  /** Tells of a change, unless the same event is waiting already or the event is longer than a message. */
  event(path: string, token: string): void {
    const payload = joinStrings([path, token]);
    if (payload.length > PAYLOAD_MAX || this.#ended) return;
    const event = `${path}\0${token}`;
    if (this.#waitingEvents.has(event) && !path.startsWith("@")) return;
    if (this.#isEventLost(payload)) return;
    const bytes = encodeMessage({ type: MESSAGE_TYPES.WATCH_EVENT, reqId: 0, txId: 0, payload });
    const expires = this.#options.clock.now() + this.#options.quotas.eventAge;
    this.#send(this.caller.privileged ? { bytes, event } : { bytes, event, expires });
    this.#armExpiry();
  }

  /** A guest that does not read loses events; a Dom0 client, which has no quota, its connection. */
  #isEventLost(payload: Uint8Array): boolean {
    const waiting = this.#waiting.length;
    const { quotas, memory } = this.#options;
    if (this.caller.privileged) {
      if (waiting < PENDING_EVENTS_DOM0) return false;
      const text = `Cannot send xenstore events: ${waiting} are waiting, the client does not read`;
      this.end(new DiskError("PROTOCOL", text));
      return true;
    }
    const isLost = waiting >= quotas.pendingEvents || memory() + payload.length >= quotas.memoryHard;
    if (isLost) this.#lostEvents++;
    return isLost;
  }

  #armExpiry(): void {
    const oldest = this.#waiting.find(({ expires }) => expires !== undefined)?.expires;
    if (this.#cancelExpiry || oldest === undefined || oldest === Number.POSITIVE_INFINITY) return;
    const { clock } = this.#options;
    this.#cancelExpiry = clock.after(oldest - clock.now(), () => {
      this.#cancelExpiry = undefined;
      this.#dropExpired(clock.now());
      this.#armExpiry();
    });
  }

  #dropExpired(now: number): void {
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      const { expires = Number.POSITIVE_INFINITY } = this.#waiting[i]!;
      if (expires > now) continue;
      this.#uncount(this.#waiting[i]!);
      this.#waiting.splice(i, 1);
      this.#lostEvents++;
    }
  }

  /** A free transaction number; never 0. */
  newTransactionId(): number {
    do {
      this.#nextTransaction = (this.#nextTransaction + 1) >>> 0 || 1;
    } while (this.transactions.has(this.#nextTransaction));
    return this.#nextTransaction;
  }

  /** Looks at what `receive` has kept, as far as it may now. */
  proceed(): void {
    if (this.#working) return;
    this.#working = true;
    try {
      while (this.accepting) {
        const message = this.#parser.next();
        if (!message) break;
        this.#options.answer(this, message);
      }
    } catch (error) {
      this.end(asDiskError(error));
    } finally {
      this.#working = false;
    }
  }

  #send(message: Outgoing): void {
    if (this.#ended) return;
    this.#waiting.push(message);
    this.account.bytes += message.bytes.length;
    if (message.event === undefined) this.#waitingReplies++;
    else this.#waitingEvents.set(message.event, (this.#waitingEvents.get(message.event) ?? 0) + 1);
    if (this.#waiting.length === 1) this.#flush();
  }

  #flush(): void {
    let sent = 0;
    while (sent < this.#waiting.length && !this.#blocked && !this.#ended) {
      const message = this.#waiting[sent++]!;
      this.#uncount(message);
      if (this.#options.send(message.bytes) === false) this.#blocked = true;
    }
    this.#waiting.splice(0, sent);
  }

  #uncount({ bytes, event }: Outgoing): void {
    this.account.bytes -= bytes.length;
    if (event === undefined) {
      this.#waitingReplies--;
      return;
    }
    const count = this.#waitingEvents.get(event)! - 1;
    if (count === 0) this.#waitingEvents.delete(event);
    else this.#waitingEvents.set(event, count);
  }

  #forget(): void {
    this.#parser.reset();
    for (const message of this.#waiting.splice(0)) this.#uncount(message);
    this.#cancelExpiry?.();
    this.#cancelExpiry = undefined;
  }
}

/** A fault of our own ends one connection with a reason to look at, never the daemon. */
function asDiskError(error: unknown): DiskError {
  if (error instanceof DiskError) return error;
  return new DiskError(
    "IO",
    `Cannot serve xenstore client: ${error instanceof Error ? error.message : String(error)}`,
    {
      cause: error,
    },
  );
}
