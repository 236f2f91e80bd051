/** Writes the replies of the transmission phase into an outbox, field by field at their tables' offsets. */
import type { StatusRun } from "./allocation.js";
import { CMD, REPLY_FLAG_DONE, REPLY_TYPE, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from "./codes.js";
import {
  BLOCK_DESCRIPTOR,
  BLOCK_STATUS,
  ERROR_CHUNK,
  OFFSET_DATA,
  OFFSET_HOLE,
  SIMPLE_REPLY,
  STRUCTURED_REPLY,
} from "./layout.js";
import type { Outbox } from "./outbox.js";
import type { Request } from "./request.js";

const simple = SIMPLE_REPLY.fields;
const chunk = STRUCTURED_REPLY.fields;

export class Replies {
  readonly #outbox: Outbox;
  readonly #structured: boolean;

  constructor(outbox: Outbox, structured: boolean) {
    this.#outbox = outbox;
    this.#structured = structured;
  }

  /** Success of a command without data. */
  done(request: Request): void {
    this.#simple(request, 0);
  }

  /** `message` is for people; only structured replies can carry it. */
  error(request: Request, errno: number, message = ""): void {
    // Data commands must be answered in the form that carries their data; the others may be simple.
    if (this.#structured && (request.type === CMD.READ || request.type === CMD.BLOCK_STATUS))
      this.#errorChunk(request, errno, Buffer.from(message));
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
    if (this.#structured && data.length > 0) {
      this.data(request, request.offset, data, true, release);
    } else {
      if (this.#structured) this.#chunk(request, REPLY_TYPE.NONE, true, 0, 0);
      else this.#simple(request, 0);
      this.#outbox.payload(data, release);
    }
  }

  /** A part of a read; `last` ends the reply. */
  data(request: Request, offset: number, data: Uint8Array, last: boolean, release?: () => void): void {
    const at = this.#chunk(request, REPLY_TYPE.OFFSET_DATA, last, OFFSET_DATA.size, data.length);
    writeOffset(this.#outbox.block, offset, at + OFFSET_DATA.fields.offset.offset);
    this.#outbox.payload(data, release);
  }

  hole(request: Request, offset: number, length: number, last: boolean): void {
    const at = this.#chunk(request, REPLY_TYPE.OFFSET_HOLE, last, OFFSET_HOLE.size, 0);
    writeOffset(this.#outbox.block, offset, at + OFFSET_HOLE.fields.offset.offset);
    this.#outbox.block.writeUInt32BE(length, at + OFFSET_HOLE.fields.length.offset);
  }

  blockStatus(request: Request, contextId: number, runs: readonly StatusRun[]): void {
    const at = this.#chunk(
      request,
      REPLY_TYPE.BLOCK_STATUS,
      true,
      BLOCK_STATUS.size,
      runs.length * BLOCK_DESCRIPTOR.size,
    );
    this.#outbox.block.writeUInt32BE(contextId, at + BLOCK_STATUS.fields.contextId.offset);
    for (const { length, status } of runs) {
      const descriptor = this.#outbox.reserve(BLOCK_DESCRIPTOR.size);
      this.#outbox.block.writeUInt32BE(length, descriptor + BLOCK_DESCRIPTOR.fields.length.offset);
      this.#outbox.block.writeUInt32BE(status, descriptor + BLOCK_DESCRIPTOR.fields.status.offset);
    }
  }

  #simple(request: Request, errno: number): void {
    const at = this.#outbox.reserve(SIMPLE_REPLY.size);
    const { block } = this.#outbox;
    block.writeUInt32BE(SIMPLE_REPLY_MAGIC, at + simple.magic.offset);
    block.writeUInt32BE(errno, at + simple.error.offset);
    block.writeUInt32BE(request.cookieHigh, at + simple.cookie.offset);
    block.writeUInt32BE(request.cookieLow, at + simple.cookie.offset + 4);
  }

  /** Header of a chunk whose payload is `head` bytes, which the caller fills at the returned position, and `rest` bytes added after. */
  #chunk(request: Request, type: number, last: boolean, head: number, rest: number): number {
    const at = this.#outbox.reserve(STRUCTURED_REPLY.size + head);
    const { block } = this.#outbox;
    block.writeUInt32BE(STRUCTURED_REPLY_MAGIC, at + chunk.magic.offset);
    block.writeUInt16BE(last ? REPLY_FLAG_DONE : 0, at + chunk.flags.offset);
    block.writeUInt16BE(type, at + chunk.type.offset);
    block.writeUInt32BE(request.cookieHigh, at + chunk.cookie.offset);
    block.writeUInt32BE(request.cookieLow, at + chunk.cookie.offset + 4);
    block.writeUInt32BE(head + rest, at + chunk.length.offset);
    return at + STRUCTURED_REPLY.size;
  }
}

function writeOffset(block: Buffer, offset: number, at: number): void {
  block.writeUInt32BE(Math.floor(offset / 2 ** 32), at);
  block.writeUInt32BE(offset % 2 ** 32, at + 4);
}
