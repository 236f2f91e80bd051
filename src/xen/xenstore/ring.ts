/**
 * The page that a domain shares with xenstored (xs_wire.h; xen docs/misc/xenstore-ring.txt): a stream of bytes each way,
 * each with two free-running indices of which either end writes one.
 *
 * Nothing is remembered between two calls: every call reads both indices once and judges them, so that an end may be replaced
 * (another kernel, another xenstored) while the page stays, and that the peer can spoil its own stream only.
 */
import { bytes, u32 } from "../../bytes/field-types.js";
import { at, layout } from "../../bytes/layout.js";
import { DiskError } from "../../errors.js";
import type { RingWords } from "../platform/ring-words.js";

/** Bytes of each stream that can be under way. */
export const XENSTORE_RING_SIZE = 1024;

export const XENSTORE_DOMAIN_INTERFACE = layout(
  "xenstore_domain_interface",
  { endian: "le", size: 2076, spec: "xen/io/xs_wire.h, Xen 4.17" },
  {
    req: at(0, bytes(XENSTORE_RING_SIZE), "requests to xenstored; byte x of the stream lies at x modulo 1024"),
    rsp: at(1024, bytes(XENSTORE_RING_SIZE), "replies and watch events"),
    reqCons: at(2048, u32, "bytes of req that xenstored has read, modulo 2^32"),
    reqProd: at(2052, u32, "bytes of req that the domain has written, modulo 2^32"),
    rspCons: at(2056, u32, "bytes of rsp that the domain has read, modulo 2^32"),
    rspProd: at(2060, u32, "bytes of rsp that xenstored has written, modulo 2^32"),
    serverFeatures: at(2064, u32, "bit 0: reconnection, bit 1: error is valid, bit 2: WATCH takes a depth"),
    connection: at(2068, u32, "0: connected, 1: the domain asks for a reset"),
    error: at(2072, u32, "why xenstored has left the connection: 0 not, 1 events, 2 indices, 3 protocol"),
  },
);

/** XENSTORE_SERVER_FEATURE_*. */
export const SERVER_FEATURES = { reconnection: 1, error: 2, watchDepth: 4 } as const;
/** XENSTORE_CONNECTED and XENSTORE_RECONNECT. */
const CONNECTED = 0;
const RECONNECT = 1;
/** XENSTORE_ERROR_*. */
export const CONNECTION_ERROR = { none: 0, communication: 1, ringIndex: 2, protocol: 3 } as const;

const WORD = Object.fromEntries(
  Object.entries(XENSTORE_DOMAIN_INTERFACE.fields).map(([name, { offset }]) => [name, offset / 4]),
) as Record<keyof typeof XENSTORE_DOMAIN_INTERFACE.fields, number>;

interface Stream {
  readonly name: string;
  /** Offset of its bytes. */
  readonly start: number;
  readonly cons: number;
  readonly prod: number;
}

const REQUESTS: Stream = { name: "req", start: WORD.req * 4, cons: WORD.reqCons, prod: WORD.reqProd };
const RESPONSES: Stream = { name: "rsp", start: WORD.rsp * 4, cons: WORD.rspCons, prod: WORD.rspProd };

export class XenstoreRing {
  readonly #words: RingWords;
  readonly #in: Stream;
  readonly #out: Stream;

  constructor(words: RingWords, end: "server" | "client") {
    this.#words = words;
    [this.#in, this.#out] = end === "server" ? [REQUESTS, RESPONSES] : [RESPONSES, REQUESTS];
  }

  /** What has come, as a copy, now free for the peer to write over; undefined for nothing. Throws `PROTOCOL` when the indices cannot be. */
  read(): Uint8Array | undefined {
    const { start, cons } = this.#in;
    const { from, length } = this.#underWay(this.#in);
    if (length === 0) return undefined;
    const into = new Uint8Array(length);
    const first = this.#beforeWrap(from, length);
    this.#words.copyBytesOut(start + (from % XENSTORE_RING_SIZE), into.subarray(0, first));
    this.#words.copyBytesOut(start, into.subarray(first));
    this.#words.store(cons, from + length);
    return into;
  }

  /** Writes as much as there is room for, and returns how much that was. Throws `PROTOCOL` when the indices cannot be. */
  write(data: Uint8Array): number {
    const { start, prod } = this.#out;
    const waiting = this.#underWay(this.#out);
    const from = (waiting.from + waiting.length) >>> 0;
    const length = Math.min(data.length, XENSTORE_RING_SIZE - waiting.length);
    const first = this.#beforeWrap(from, length);
    this.#words.copyBytesIn(start + (from % XENSTORE_RING_SIZE), data.subarray(0, first));
    this.#words.copyBytesIn(start, data.subarray(first, length));
    if (length > 0) this.#words.store(prod, from + length); // after the bytes: the peer reads them as soon as it sees this
    return length;
  }

  /** Nothing is under way in either direction, and the indices make sense. */
  get quiescent(): boolean {
    return [REQUESTS, RESPONSES].every(({ cons, prod }) => this.#words.load(cons) === this.#words.load(prod));
  }

  get serverFeatures(): number {
    return this.#words.load(WORD.serverFeatures);
  }

  /** One of CONNECTION_ERROR, or a number of a later version. */
  get error(): number {
    return this.#words.load(WORD.error);
  }

  /** The domain has asked for a reset, and xenstored has not done it yet. */
  get reconnecting(): boolean {
    return this.#words.load(WORD.connection) === RECONNECT;
  }

  /** The domain's side: nothing else of the page counts until `reconnecting` is false again. */
  askReconnect(): void {
    this.#words.store(WORD.connection, RECONNECT);
  }

  /** The server's side. */
  setError(error: number): void {
    this.#words.store(WORD.error, error);
  }

  offer(features: number): void {
    this.#words.store(WORD.serverFeatures, features);
  }

  /** The server's side of a reset: both streams empty, connected, no error. */
  reset(): void {
    for (const { cons, prod } of [REQUESTS, RESPONSES]) {
      this.#words.store(cons, 0);
      this.#words.store(prod, 0);
    }
    this.setError(CONNECTION_ERROR.none);
    this.#words.store(WORD.connection, CONNECTED);
  }

  /** The bytes that are written and not read, each index looked at once. */
  #underWay({ name, cons, prod }: Stream): { from: number; length: number } {
    const from = this.#words.load(cons);
    const length = (this.#words.load(prod) - from) >>> 0;
    if (length > XENSTORE_RING_SIZE)
      throw new DiskError(
        "PROTOCOL",
        `Cannot use xenstore ring: ${length} bytes are under way in ${name}, allowed 0..${XENSTORE_RING_SIZE}`,
        { details: { length } },
      );
    return { from, length };
  }

  /** How many of `length` bytes lie before the end of the buffer. */
  #beforeWrap(from: number, length: number): number {
    return Math.min(length, XENSTORE_RING_SIZE - (from % XENSTORE_RING_SIZE));
  }
}
