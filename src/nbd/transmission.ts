/**
 * The server's half of the transmission phase, without a socket: bytes of requests go in, gathered replies come out.
 * Requests run at once and are answered in the order in which they finish. What a client can make the server hold is bounded:
 *
 *   receive -> [header] -> within the limits? -no-> pause the wire, go on when replies have left
 *                              | yes
 *                          allowed? -no-> skip its payload, error reply
 *                              | yes
 *                          payload -> device -> reply -> outbox -> wire
 *
 * Nothing here is a socket's or a thread's, so that a blocking worker can drive it as well.
 */
import type { BufferPool } from "./buffer-pool.js";
import { CMD, CMD_FLAG, EXTENDED_REQUEST_MAGIC, MAX_PAYLOAD, REQUEST_MAGIC } from "./codes.js";
import { execute } from "./commands.js";
import { toNbdErrno } from "./errno.js";
import type { Session } from "./handshake.js";
import { EXTENDED_REQUEST, REQUEST } from "./layout.js";
import { contextRuns } from "./meta-context.js";
import { BLOCK_PAYLOAD, Outbox, type Send } from "./outbox.js";
import { Replies } from "./replies.js";
import { isWrite, payloadLength, Request, refusal } from "./request.js";
import { readSparse } from "./sparse-read.js";

export interface Wire {
  readonly send: Send;
  /** Calls the flush when what came in together has been answered. */
  schedule(flush: () => void): void;
  /** Stops and restarts the flow of bytes to `receive`; a few may still come after a pause. */
  pause(): void;
  resume(): void;
  /** Ends the connection: `polite` after what was sent has left, otherwise at once. */
  end(polite: boolean): void;
  /** The device failed a request; the client has been told the error value. */
  failed(error: unknown): void;
}

export interface TransmissionLimits {
  /** Payload bytes in flight, from a request's header to its reply's departure. One request is always let in. */
  readonly bytesInFlight: number;
  readonly requestsInFlight: number;
}

const MAGIC_AT = REQUEST.fields.magic.offset;
/** Payload of a refused write that is read past. After more the connection ends: reading it would serve only the client's greed. */
const MAX_SKIPPED = 2 * MAX_PAYLOAD;
/** What the descriptors of a block status may take. */
const STATUS_WEIGHT = 64 << 10;
/** Replies leave as soon as they are that long together: the client works on them while the next are made, from memory that is still warm. */
const FLUSH_FROM = 64 << 10;
/** No request is begun while so much waits for the client to take it: what is read early is cold when it leaves. */
const UNSENT_MOST = 256 << 10;
/** Shorter reads are sent as data without a look at the map, which would cost more than the bytes. */
const HOLES_FROM = 32 << 10;

export class Transmission {
  readonly #session: Session;
  readonly #limits: TransmissionLimits;
  readonly #wire: Wire;
  readonly #outbox: Outbox;
  readonly #replies: Replies;
  readonly #pool: BufferPool;
  readonly #headerSize: number;
  readonly #magic: number;
  #input: Buffer = Buffer.alloc(0);
  #at = 0;
  /** The write whose payload is coming in: #filled bytes of it are here. */
  #writing: { request: Request; buffer: Buffer; data: Buffer } | undefined;
  #filled = 0;
  /** Payload bytes of a refused write still to be read past, and its answer. */
  #skip = 0;
  #refused: { request: Request; errno: number } | undefined;
  #requests = 0;
  /** Writes that are under way straight out of the bytes that were received. */
  #borrowed = 0;
  #bytes = 0;
  #stalled = false;
  #stopped = false;
  #wrote = false;
  #whenIdle: (() => void)[] = [];

  /** `pool` may be shared with other connections of the thread. */
  constructor(session: Session, limits: TransmissionLimits, pool: BufferPool, wire: Wire) {
    this.#session = session;
    this.#pool = pool;
    this.#limits = limits;
    this.#wire = wire;
    this.#outbox = new Outbox(
      wire.send,
      (flush) => wire.schedule(flush),
      () => this.#continue(),
    );
    const { extendedHeaders, structuredReplies } = session;
    this.#headerSize = extendedHeaders ? EXTENDED_REQUEST.size : REQUEST.size;
    this.#magic = extendedHeaders ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC;
    this.#replies = new Replies(
      this.#outbox,
      extendedHeaders ? "extended" : structuredReplies ? "structured" : "simple",
    );
  }

  /** Requests that were taken and are not answered. */
  get inFlight(): number {
    return this.#requests;
  }

  /** Nothing of the bytes that were received is still in use. */
  get isClean(): boolean {
    return this.#borrowed === 0 && this.#at === this.#input.length;
  }

  /** Whether a request that changes the device was let through. */
  get wrote(): boolean {
    return this.#wrote;
  }

  /** The chunk belongs to this object from now on: writes may be done straight out of it. */
  receive(chunk: Buffer): void {
    if (this.#stopped) return;
    this.#input = this.#at === this.#input.length ? chunk : Buffer.concat([this.#input.subarray(this.#at), chunk]);
    this.#at = 0;
    if (!this.#stalled) this.#parse();
  }

  /** Takes no further request. Resolves when none is in flight and their replies have been given to the wire. */
  stop(): Promise<void> {
    this.#stopped = true;
    this.#input = Buffer.alloc(0);
    this.#at = 0;
    if (this.#writing) this.#requests--; // its payload will never come
    this.#writing = undefined;
    return new Promise((resolve) => {
      this.#whenIdle.push(resolve);
      this.#settle();
    });
  }

  #parse(): void {
    while (
      !this.#stopped &&
      (this.#skip > 0 ? this.#skipPayload() : this.#writing ? this.#fillPayload() : this.#header())
    );
  }

  /** Takes the next request in. False when there is none, or no room for it. */
  #header(): boolean {
    const input = this.#input;
    const at = this.#at;
    if (input.length - at < this.#headerSize) return false;
    if (input.readUInt32BE(at + MAGIC_AT) !== this.#magic) return this.#hangUp();
    const request = new Request(input, at, this.#session.extendedHeaders);
    if (request.type === CMD.DISC) return this.#disconnect();
    if (this.#isFull(weightOf(request))) {
      this.#stalled = true;
      this.#wire.pause();
      return false;
    }
    this.#at = at + this.#headerSize;
    const errno = refusal(request, this.#session);
    if (errno !== 0) return this.#refuse(request, errno);
    this.#requests++;
    this.#bytes += weightOf(request);
    if (isWrite(request.type)) this.#wrote = true;
    if (request.type === CMD.WRITE) this.#beginPayload(request);
    else this.#run(request, undefined);
    if (this.#outbox.queued >= FLUSH_FROM) this.#outbox.flush();
    return true;
  }

  #isFull(length: number): boolean {
    const { unsent } = this.#outbox;
    const held = this.#bytes + unsent;
    if (this.#requests === 0 && held === 0) return false;
    if (unsent >= UNSENT_MOST) return true;
    return this.#requests >= this.#limits.requestsInFlight || held + length > this.#limits.bytesInFlight;
  }

  #refuse(request: Request, errno: number): boolean {
    const payload = payloadLength(request, this.#session.extendedHeaders);
    if (payload === 0) {
      this.#replies.error(request, errno, "the request does not fit the export");
      return true;
    }
    if (payload > MAX_SKIPPED) return this.#hangUp();
    this.#skip = payload;
    this.#refused = { request, errno };
    return true;
  }

  #skipPayload(): boolean {
    const here = Math.min(this.#skip, this.#input.length - this.#at);
    this.#at += here;
    this.#skip -= here;
    if (this.#skip > 0) return false;
    this.#replies.error(this.#refused!.request, this.#refused!.errno);
    return true;
  }

  #beginPayload(request: Request): void {
    const { length } = request;
    if (this.#input.length - this.#at >= length) {
      const data = this.#input.subarray(this.#at, this.#at + length);
      this.#at += length;
      this.#run(request, data);
    } else {
      const buffer = this.#pool.take(length);
      this.#writing = { request, buffer, data: buffer.subarray(0, length) };
      this.#filled = 0;
    }
  }

  #fillPayload(): boolean {
    const { request, buffer, data } = this.#writing!;
    const copied = this.#input.copy(data, this.#filled, this.#at);
    this.#filled += copied;
    this.#at += copied;
    if (this.#filled < data.length) return false;
    this.#writing = undefined;
    this.#run(request, data, buffer);
    return true;
  }

  /** `buffer` is the pool's, and goes back when the write is done. */
  #run(request: Request, data: Buffer | undefined, buffer?: Buffer): void {
    try {
      if (request.type === CMD.READ) this.#read(request);
      else if (request.type === CMD.BLOCK_STATUS) this.#blockStatus(request);
      else this.#execute(request, data, buffer);
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #execute(request: Request, data: Buffer | undefined, buffer: Buffer | undefined): void {
    const borrowed = data && !buffer ? 1 : 0;
    this.#borrowed += borrowed;
    execute(this.#session.export.device, request, data).then(
      () => {
        this.#borrowed -= borrowed;
        if (buffer) this.#pool.give(buffer);
        this.#replies.done(request);
        this.#finish(request);
      },
      (error) => {
        this.#borrowed -= borrowed;
        this.#fail(request, error);
      },
    );
  }

  #read(request: Request): void {
    const { offset, length, flags } = request;
    const { export: exported, structuredReplies } = this.#session;
    const tellsHoles = length >= HOLES_FROM && structuredReplies && !exported.slowMap && (flags & CMD_FLAG.DF) === 0;
    if (this.#isAtHand(request, tellsHoles) && this.#replies.cached(request, exported.cached!)) {
      this.#finish(request);
      return;
    }
    if (tellsHoles) {
      readSparse(exported.device, request, this.#pool, this.#replies).then(
        () => this.#finish(request),
        (error) => this.#fail(request, error),
      );
      return;
    }
    const buffer = this.#pool.take(length);
    const data = buffer.length === length ? buffer : buffer.subarray(0, length);
    exported.device.read(offset, data).then(
      () => {
        this.#replies.read(request, data, () => this.#pool.give(buffer));
        this.#finish(request);
      },
      // The buffer is not used again: a part of the failed read may still be on its way into it.
      (error) => this.#fail(request, error),
    );
  }

  /** Whether the read may be answered at once, as one piece of data. */
  #isAtHand({ offset, length }: Request, tellsHoles: boolean): boolean {
    const { cached } = this.#session.export;
    if (!cached || length === 0 || length > BLOCK_PAYLOAD) return false;
    return !tellsHoles || cached.isData(offset, length);
  }

  #blockStatus(request: Request): void {
    const { offset, length, flags } = request;
    const { contexts, export: exported } = this.#session;
    const one = (flags & CMD_FLAG.REQ_ONE) !== 0;
    Promise.all(contexts.map((context) => contextRuns(exported, context, offset, length, one))).then(
      (found) => {
        for (const [i, runs] of found.entries())
          this.#replies.blockStatus(request, contexts[i]!.id, runs, i === found.length - 1);
        this.#finish(request);
      },
      (error) => this.#fail(request, error),
    );
  }

  #fail(request: Request, error: unknown): void {
    this.#wire.failed(error);
    this.#replies.error(request, toNbdErrno(error));
    this.#finish(request);
  }

  #finish(request: Request): void {
    this.#requests--;
    this.#bytes -= weightOf(request);
    if (this.#stopped) this.#settle();
    else this.#continue();
  }

  /** Goes on after a pause, when there is room again. */
  #continue(): void {
    if (!this.#stalled || this.#stopped) return;
    this.#stalled = false;
    this.#parse();
    if (!this.#stalled && !this.#stopped) this.#wire.resume();
  }

  #disconnect(): false {
    void this.stop().then(() => this.#wire.end(true));
    return false;
  }

  /** The stream makes no sense any more: nothing of it may be taken for a request. */
  #hangUp(): false {
    this.#stopped = true;
    this.#wire.end(false);
    return false;
  }

  #settle(): void {
    if (this.#requests > 0 || this.#whenIdle.length === 0) return;
    this.#outbox.flush();
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }
}

/** Bytes that a request makes the server hold. */
function weightOf({ type, length }: Request): number {
  if (type === CMD.READ || type === CMD.WRITE) return length;
  return type === CMD.BLOCK_STATUS ? STATUS_WEIGHT : 0;
}
