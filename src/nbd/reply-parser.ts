/**
 * Takes a server's replies apart and checks each against the request it answers; data go straight to where the reader wants them.
 * Whatever the protocol does not allow is thrown as PROTOCOL: the stream cannot be trusted after it.
 */
import { DiskError } from "../errors.js";
import type { Agreement } from "./client-handshake.js";
import {
  CMD,
  EXTENDED_REPLY_MAGIC,
  MAX_STRING,
  nameOf,
  REPLY_ERROR_BIT,
  REPLY_FLAG_DONE,
  REPLY_TYPE,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from "./codes.js";
import { Coverage } from "./coverage.js";
import {
  BLOCK_DESCRIPTOR,
  BLOCK_DESCRIPTOR_EXT,
  BLOCK_STATUS,
  BLOCK_STATUS_EXT,
  ERROR_CHUNK,
  EXTENDED_REPLY,
  OFFSET_DATA,
  OFFSET_HOLE,
  SIMPLE_REPLY,
  STRUCTURED_REPLY,
} from "./layout.js";

/** A request that waits for its reply. */
export class PendingRequest {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** What a write sends. */
  readonly data: Uint8Array | undefined;
  /** Where a read's data go. */
  readonly into: Uint8Array | undefined;
  /** Bytes of `into` that have come, for replies in chunks. */
  coverage = new Coverage();
  /** First error of the reply; 0 for none. */
  errno = 0;
  message = "";
  /** BLOCK_STATUS: alternately length and status. */
  descriptors: number[] | undefined;

  /** `buffer`: the data of a write, the target of a read. */
  constructor(type: number, offset: number, length: number, buffer?: Uint8Array, flags = 0) {
    this.type = type;
    this.flags = flags;
    this.offset = offset;
    this.length = length;
    this.data = type === CMD.WRITE ? buffer : undefined;
    this.into = type === CMD.READ ? buffer : undefined;
  }

  /** Forgets what came of the reply: the request is sent again. */
  reset(): void {
    this.coverage = new Coverage();
    this.errno = 0;
    this.message = "";
    this.descriptors = undefined;
  }
}

export interface ReplyEvents {
  /** The request that a cookie belongs to, or undefined. */
  find(cookieHigh: number, cookieLow: number): PendingRequest | undefined;
  /** The reply is complete: `errno` tells its outcome. */
  done(request: PendingRequest, cookieLow: number): void;
}

const simple = SIMPLE_REPLY.fields;
const chunk = STRUCTURED_REPLY.fields;
/** Bytes of a new chunk that are joined with what was left of the one before: more than any header. */
const JOINT = 4096;
const MAX_DESCRIPTORS = 1 << 17;
const NO_BYTES = Buffer.alloc(0);

export class ReplyParser {
  readonly #events: ReplyEvents;
  readonly #structured: boolean;
  readonly #extended: boolean;
  readonly #contextId: number | undefined;
  readonly #label: string;
  /** The start of a message whose end has not come. */
  #left: Buffer = NO_BYTES;
  /** Data that are coming in, and what to do after them. */
  #sink: Uint8Array | undefined;
  #filled = 0;
  #whenSunk: () => void = () => {};

  constructor(
    events: ReplyEvents,
    agreed: Pick<Agreement, "structuredReplies" | "extendedHeaders" | "allocationContext">,
    label: string,
  ) {
    this.#events = events;
    this.#structured = agreed.structuredReplies && !agreed.extendedHeaders;
    this.#extended = agreed.extendedHeaders;
    this.#contextId = agreed.allocationContext;
    this.#label = label;
  }

  /** The bytes are not kept: they may be overwritten when this returns. */
  receive(bytes: Buffer): void {
    let at = 0;
    if (this.#left.length > 0) {
      const left = this.#left;
      const joint = Buffer.concat([left, bytes.subarray(0, JOINT)]);
      const used = this.#parse(joint);
      if (used < left.length) {
        // A long message: it needs more than the joint, or more than what is here.
        const all = bytes.length <= JOINT ? joint.subarray(used) : Buffer.concat([left.subarray(used), bytes]);
        this.#left = bytes.length <= JOINT ? all : all.subarray(this.#parse(all));
        return;
      }
      this.#left = NO_BYTES;
      at = used - left.length;
    }
    at += this.#parse(bytes.subarray(at));
    if (at < bytes.length) this.#left = Buffer.from(bytes.subarray(at));
  }

  /** Where the next bytes belong when they are data of a read: who puts them there by himself says so by `sunk`. */
  get sink(): Uint8Array | undefined {
    return this.#sink?.subarray(this.#filled);
  }

  sunk(count: number): void {
    this.#filled += count;
    if (this.#filled < this.#sink!.length) return;
    this.#sink = undefined;
    this.#whenSunk();
  }

  /** Takes all whole messages and returns the bytes they had. */
  #parse(bytes: Buffer): number {
    let at = 0;
    for (;;) {
      const used = this.#sink ? this.#fill(bytes, at) : this.#message(bytes, at);
      if (used === 0) return at;
      at += used;
    }
  }

  #fill(bytes: Buffer, at: number): number {
    const sink = this.#sink!;
    const copied = Math.min(sink.length - this.#filled, bytes.length - at);
    sink.set(bytes.subarray(at, at + copied), this.#filled);
    this.sunk(copied);
    return copied;
  }

  #message(bytes: Buffer, at: number): number {
    if (bytes.length - at < SIMPLE_REPLY.size) return 0;
    const magic = bytes.readUInt32BE(at + simple.magic.offset);
    if (magic === SIMPLE_REPLY_MAGIC && !this.#extended) return this.#simple(bytes, at);
    if (magic === STRUCTURED_REPLY_MAGIC && this.#structured) return this.#chunk(bytes, at);
    if (magic === EXTENDED_REPLY_MAGIC && this.#extended) return this.#chunk(bytes, at);
    return this.#broken(`sent a reply with the magic 0x${magic.toString(16)}`);
  }

  #simple(bytes: Buffer, at: number): number {
    const cookie = bytes.readUInt32BE(at + simple.cookie.offset + 4);
    const request = this.#find(bytes.readUInt32BE(at + simple.cookie.offset), cookie);
    if (this.#structured && (request.type === CMD.READ || request.type === CMD.BLOCK_STATUS))
      this.#broken(`answered ${nameOf(CMD, request.type)} with a simple reply, allowed a structured one`);
    request.errno = bytes.readUInt32BE(at + simple.error.offset);
    if (request.into && request.errno === 0) this.#into(request.into, () => this.#events.done(request, cookie));
    else this.#events.done(request, cookie);
    return SIMPLE_REPLY.size;
  }

  #chunk(bytes: Buffer, at: number): number {
    const header = this.#extended ? EXTENDED_REPLY.size : STRUCTURED_REPLY.size;
    if (bytes.length - at < header) return 0;
    // Both kinds of header begin alike.
    const type = bytes.readUInt16BE(at + chunk.type.offset);
    const length = this.#extended
      ? readU64(bytes, at + EXTENDED_REPLY.fields.length.offset)
      : bytes.readUInt32BE(at + chunk.length.offset);
    const cookie = bytes.readUInt32BE(at + chunk.cookie.offset + 4);
    const request = this.#find(bytes.readUInt32BE(at + chunk.cookie.offset), cookie);
    const last = (bytes.readUInt16BE(at + chunk.flags.offset) & REPLY_FLAG_DONE) !== 0;
    const payloadAt = at + header;
    const size = this.#payloadSize(type, length);
    if (bytes.length - payloadAt < size) return 0;
    const payload = bytes.subarray(payloadAt, payloadAt + size);
    if (type === REPLY_TYPE.OFFSET_DATA) {
      const part = this.#part(request, readU64(payload, 0), length - size, type);
      this.#into(part, last ? () => this.#done(request, cookie) : () => {});
    } else {
      this.#payload(request, type, payload, last);
      if (last) this.#done(request, cookie);
    }
    return header + size;
  }

  /** Bytes of the payload that are taken as a whole: all, or those before a read's data. */
  #payloadSize(type: number, length: number): number {
    if (type === REPLY_TYPE.OFFSET_DATA) {
      if (length <= OFFSET_DATA.size)
        this.#broken(`sent a chunk OFFSET_DATA of ${length} bytes, allowed from ${OFFSET_DATA.size + 1}`);
      return OFFSET_DATA.size;
    }
    const status = type === REPLY_TYPE.BLOCK_STATUS || type === REPLY_TYPE.BLOCK_STATUS_EXT;
    const most = status ? BLOCK_STATUS_EXT.size + MAX_DESCRIPTORS * BLOCK_DESCRIPTOR_EXT.size : 2 * MAX_STRING;
    if (length > most) this.#broken(`sent a chunk ${nameOf(REPLY_TYPE, type)} of ${length} bytes, allowed 0..${most}`);
    return length;
  }

  #payload(request: PendingRequest, type: number, payload: Buffer, last: boolean): void {
    switch (type) {
      case REPLY_TYPE.NONE:
        if (payload.length > 0 || !last)
          this.#broken(`sent a chunk NONE of ${payload.length} bytes${last ? "" : " that is not the last"}`);
        break;
      case REPLY_TYPE.OFFSET_HOLE:
        if (payload.length !== OFFSET_HOLE.size)
          this.#broken(`sent a chunk OFFSET_HOLE of ${payload.length} bytes, allowed ${OFFSET_HOLE.size}`);
        this.#part(request, readU64(payload, 0), payload.readUInt32BE(OFFSET_HOLE.fields.length.offset), type).fill(0);
        break;
      case this.#extended ? REPLY_TYPE.BLOCK_STATUS_EXT : REPLY_TYPE.BLOCK_STATUS:
        this.#blockStatus(request, payload);
        break;
      default:
        // Any type with bit 15 is an error, also one that is not known here.
        if ((type & REPLY_ERROR_BIT) === 0) this.#broken(`sent a chunk of the unknown type ${type}`);
        this.#error(request, type, payload);
    }
  }

  #error(request: PendingRequest, type: number, payload: Buffer): void {
    const errno = payload.length < ERROR_CHUNK.size ? 0 : payload.readUInt32BE(ERROR_CHUNK.fields.error.offset);
    if (errno === 0) this.#broken(`sent a chunk ${nameOf(REPLY_TYPE, type)} without an error value`);
    const end = ERROR_CHUNK.size + payload.readUInt16BE(ERROR_CHUNK.fields.messageLength.offset);
    const tail = type === REPLY_TYPE.ERROR_OFFSET ? 8 : 0;
    if (end + tail > payload.length)
      this.#broken(`sent a chunk ${nameOf(REPLY_TYPE, type)} whose message is longer than the chunk`);
    if (request.errno !== 0) return;
    request.errno = errno;
    request.message = payload.subarray(ERROR_CHUNK.size, end).toString();
  }

  #blockStatus(request: PendingRequest, payload: Buffer): void {
    const [head, size] = this.#extended
      ? [BLOCK_STATUS_EXT.size, BLOCK_DESCRIPTOR_EXT.size]
      : [BLOCK_STATUS.size, BLOCK_DESCRIPTOR.size];
    const count = (payload.length - head) / size;
    if (request.type !== CMD.BLOCK_STATUS || request.descriptors || count < 1 || !Number.isInteger(count))
      this.#broken(`answered ${nameOf(CMD, request.type)} with a chunk BLOCK_STATUS of ${payload.length} bytes`);
    if (payload.readUInt32BE(BLOCK_STATUS.fields.contextId.offset) !== this.#contextId)
      this.#broken(`sent block status of a context that was not selected`);
    if (this.#extended && payload.readUInt32BE(BLOCK_STATUS_EXT.fields.count.offset) !== count)
      this.#broken(`sent block status with a count that is not its number of descriptors, ${count}`);
    request.descriptors = [];
    for (let at = head; at < payload.length; at += size) {
      const [length, status] = this.#extended
        ? [readU64(payload, at), payload.readUInt32BE(at + BLOCK_DESCRIPTOR_EXT.fields.status.offset + 4)]
        : [payload.readUInt32BE(at), payload.readUInt32BE(at + BLOCK_DESCRIPTOR.fields.status.offset)];
      if (length === 0) this.#broken("sent block status of 0 bytes");
      request.descriptors.push(length, status);
    }
  }

  /** The bytes of a read's target that a chunk fills: inside of the request, and not filled before. */
  #part(request: PendingRequest, offset: number, length: number, type: number): Uint8Array {
    const at = offset - request.offset;
    const name = nameOf(REPLY_TYPE, type);
    if (!request.into) return this.#broken(`answered ${nameOf(CMD, request.type)} with a chunk ${name}`);
    if (!(length > 0 && at >= 0 && at <= request.length - length))
      this.#broken(
        `sent a chunk ${name} of bytes ${offset}..${offset + length}, asked were ${request.offset}..${request.offset + request.length}`,
      );
    if (!request.coverage.add(at, at + length)) this.#broken(`sent overlapping or too many chunks for one read`);
    return request.into.subarray(at, at + length);
  }

  #into(target: Uint8Array, then: () => void): void {
    this.#sink = target;
    this.#filled = 0;
    this.#whenSunk = then;
    if (target.length === 0) this.#fill(NO_BYTES, 0);
  }

  #done(request: PendingRequest, cookie: number): void {
    if (request.errno === 0 && request.into && request.coverage.covered !== request.length)
      this.#broken(`sent ${request.coverage.covered} bytes for a read of ${request.length}`);
    if (request.errno === 0 && request.type === CMD.BLOCK_STATUS && !request.descriptors)
      this.#broken("sent no block status");
    this.#events.done(request, cookie);
  }

  #find(cookieHigh: number, cookieLow: number): PendingRequest {
    return (
      this.#events.find(cookieHigh, cookieLow) ??
      this.#broken(`answered a request that was not sent (cookie ${cookieHigh}:${cookieLow})`)
    );
  }

  #broken(found: string): never {
    throw new DiskError("PROTOCOL", `Cannot use ${this.#label}: the server ${found}`);
  }
}

/** A 64-bit offset or length; above 2^53 rounding leaves it outside of every request. */
function readU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
}
