/** Writes the replies of the transmission phase into an outbox, field by field at their tables' offsets. */
import type { StatusRun } from "./allocation.js";
import {
  CMD,
  EXTENDED_REPLY_MAGIC,
  REPLY_FLAG_DONE,
  REPLY_TYPE,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from "./codes.js";
import type { CachedBytes } from "./exports.js";
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
import type { Outbox } from "./outbox.js";
import type { Request } from "./request.js";

const simple = SIMPLE_REPLY.fields;
const chunk = STRUCTURED_REPLY.fields;

/** What was negotiated: each kind brings what the one before it can. */
export type ReplyHeaders = "simple" | "structured" | "extended";

export class Replies {
  readonly #outbox: Outbox;
  readonly #headers: ReplyHeaders;
  /** Bytes of a chunk's header. */
  readonly #chunkSize: number;

  constructor(outbox: Outbox, headers: ReplyHeaders) {
    this.#outbox = outbox;
    this.#headers = headers;
    this.#chunkSize = headers === "extended" ? EXTENDED_REPLY.size : STRUCTURED_REPLY.size;
  }

  /** Success of a command without data. */
  done(request: Request): void {
    if (this.#headers === "extended") this.#chunk(request, REPLY_TYPE.NONE, true, 0, 0);
    else this.#simple(request, 0);
  }

  /** `message` is for people; only structured replies can carry it. */
  error(request: Request, errno: number, message = ""): void {
    // Data commands must be answered in the form that carries their data; with compact headers the others may be simple.
    const { type } = request;
    const structured = this.#headers === "structured" && (type === CMD.READ || type === CMD.BLOCK_STATUS);
    if (structured || this.#headers === "extended") this.#errorChunk(request, errno, Buffer.from(message));
    else this.#simple(request, errno);
  }

  #errorChunk(request: Request, errno: number, text: Buffer): void {
    const at = this.#chunk(request, REPLY_TYPE.ERROR, true, ERROR_CHUNK.size, text.length);
    this.#outbox.block.writeUInt32BE(errno, at + ERROR_CHUNK.fields.error.offset);
    this.#outbox.block.writeUInt16BE(text.length, at + ERROR_CHUNK.fields.messageLength.offset);
    this.#outbox.payload(text);
  }

  /** All data of a read. They stay untouched until `release` is called. */
  read(request: Request, data: Uint8Array, release: () => void): void {
    if (this.#headers === "simple") {
      this.#simple(request, 0);
      this.#outbox.payload(data, release);
    } else if (data.length > 0) {
      this.data(request, request.offset, data, true, release);
    } else {
      this.#chunk(request, REPLY_TYPE.NONE, true, 0, 0);
      release();
    }
  }

  /** All data of a read, which `source` puts in place at once. False, and nothing was added, when it cannot. At most `BLOCK_PAYLOAD` bytes. */
  cached(request: Request, source: CachedBytes): boolean {
    const { offset, length } = request;
    const isSimple = this.#headers === "simple";
    const head = isSimple ? SIMPLE_REPLY.size : this.#chunkSize + OFFSET_DATA.size;
    const at = this.#outbox.reserve(head + length);
    const { block } = this.#outbox;
    if (!source.read(offset, length, block, at + head)) {
      this.#outbox.unreserve(head + length);
      return false;
    }
    if (isSimple) {
      this.#putSimple(at, request, 0);
    } else {
      this.#putChunk(at, request, REPLY_TYPE.OFFSET_DATA, true, OFFSET_DATA.size + length);
      writeU64(block, offset, at + this.#chunkSize + OFFSET_DATA.fields.offset.offset);
    }
    return true;
  }

  /** A part of a read; `last` ends the reply. */
  data(request: Request, offset: number, data: Uint8Array, last: boolean, release?: () => void): void {
    const at = this.#chunk(request, REPLY_TYPE.OFFSET_DATA, last, OFFSET_DATA.size, data.length);
    writeU64(this.#outbox.block, offset, at + OFFSET_DATA.fields.offset.offset);
    this.#outbox.payload(data, release);
  }

  hole(request: Request, offset: number, length: number, last: boolean): void {
    const at = this.#chunk(request, REPLY_TYPE.OFFSET_HOLE, last, OFFSET_HOLE.size, 0);
    writeU64(this.#outbox.block, offset, at + OFFSET_HOLE.fields.offset.offset);
    this.#outbox.block.writeUInt32BE(length, at + OFFSET_HOLE.fields.length.offset);
  }

  /** The runs of one context; the reply has one of these chunks for each that was selected. */
  blockStatus(request: Request, contextId: number, runs: readonly StatusRun[], last: boolean): void {
    if (this.#headers === "extended") return void this.#extendedStatus(request, contextId, runs, last);
    const rest = runs.length * BLOCK_DESCRIPTOR.size;
    const at = this.#chunk(request, REPLY_TYPE.BLOCK_STATUS, last, BLOCK_STATUS.size, rest);
    this.#outbox.block.writeUInt32BE(contextId, at + BLOCK_STATUS.fields.contextId.offset);
    for (const { length, status } of runs) {
      const descriptor = this.#outbox.reserve(BLOCK_DESCRIPTOR.size);
      this.#outbox.block.writeUInt32BE(length, descriptor + BLOCK_DESCRIPTOR.fields.length.offset);
      this.#outbox.block.writeUInt32BE(status, descriptor + BLOCK_DESCRIPTOR.fields.status.offset);
    }
  }

  #extendedStatus(request: Request, contextId: number, runs: readonly StatusRun[], last: boolean): void {
    const rest = runs.length * BLOCK_DESCRIPTOR_EXT.size;
    const at = this.#chunk(request, REPLY_TYPE.BLOCK_STATUS_EXT, last, BLOCK_STATUS_EXT.size, rest);
    this.#outbox.block.writeUInt32BE(contextId, at + BLOCK_STATUS_EXT.fields.contextId.offset);
    this.#outbox.block.writeUInt32BE(runs.length, at + BLOCK_STATUS_EXT.fields.count.offset);
    for (const { length, status } of runs) {
      const descriptor = this.#outbox.reserve(BLOCK_DESCRIPTOR_EXT.size);
      writeU64(this.#outbox.block, length, descriptor + BLOCK_DESCRIPTOR_EXT.fields.length.offset);
      writeU64(this.#outbox.block, status, descriptor + BLOCK_DESCRIPTOR_EXT.fields.status.offset);
    }
  }

  #simple(request: Request, errno: number): void {
    this.#putSimple(this.#outbox.reserve(SIMPLE_REPLY.size), request, errno);
  }

  #putSimple(at: number, { cookieHigh, cookieLow }: Request, errno: number): void {
    const { block } = this.#outbox;
    block.writeUInt32BE(SIMPLE_REPLY_MAGIC, at + simple.magic.offset);
    block.writeUInt32BE(errno, at + simple.error.offset);
    block.writeUInt32BE(cookieHigh, at + simple.cookie.offset);
    block.writeUInt32BE(cookieLow, at + simple.cookie.offset + 4);
  }

  /** Header of a chunk whose payload is `head` bytes, which the caller fills at the returned position, and `rest` bytes added after. */
  #chunk(request: Request, type: number, last: boolean, head: number, rest: number): number {
    const at = this.#outbox.reserve(this.#chunkSize + head);
    this.#putChunk(at, request, type, last, head + rest);
    return at + this.#chunkSize;
  }

  /** Only the header, of a chunk with `length` bytes of payload. */
  #putChunk(at: number, request: Request, type: number, last: boolean, length: number): void {
    const { block } = this.#outbox;
    const extended = this.#headers === "extended";
    // Both kinds of header begin alike.
    block.writeUInt32BE(extended ? EXTENDED_REPLY_MAGIC : STRUCTURED_REPLY_MAGIC, at + chunk.magic.offset);
    block.writeUInt16BE(last ? REPLY_FLAG_DONE : 0, at + chunk.flags.offset);
    block.writeUInt16BE(type, at + chunk.type.offset);
    block.writeUInt32BE(request.cookieHigh, at + chunk.cookie.offset);
    block.writeUInt32BE(request.cookieLow, at + chunk.cookie.offset + 4);
    if (extended) {
      writeU64(block, request.offset, at + EXTENDED_REPLY.fields.offset.offset);
      writeU64(block, length, at + EXTENDED_REPLY.fields.length.offset);
    } else {
      block.writeUInt32BE(length, at + chunk.length.offset);
    }
  }
}

/** 64 bits; a request's offset beyond 2^53, which only an error answers, comes back rounded. */
function writeU64(block: Buffer, value: number, at: number): void {
  const high = Math.floor(value / 2 ** 32);
  block.writeUInt32BE(Math.min(high, 0xffff_ffff), at);
  block.writeUInt32BE(value % 2 ** 32, at + 4);
}
