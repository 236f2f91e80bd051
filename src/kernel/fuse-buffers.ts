/**
 * Buffers of a FUSE session, used again and again: a large one to receive into, and replies with their header's place before
 * the data. Reply buffers are kept by size class, so that small reads do not hold what a large one needs.
 */
import { IN_HEADER, IO_IN, OUT_HEADER } from "./fuse-layout.js";

/** Bytes of data in one READ or WRITE. */
export const MAX_DATA = 1 << 20;
/** The kernel refuses to hand a request to less than a header, a WRITE and its data. */
const RECEIVE_SIZE = MAX_DATA + 4096;
export const WRITE_DATA_AT = IN_HEADER.size + IO_IN.size;

const CLASSES = [4096, 32 << 10, 128 << 10, 512 << 10, MAX_DATA];
/** Free buffers kept of each class: 64 small ones are 256 KiB, 8 large ones 8 MiB. */
const KEPT_BYTES = 8 << 20;
const KEPT_COUNT = 64;

/** Bytes with their 32-bit words beside them. */
export interface MessageBuffer {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
}

function messageBuffer(size: number): MessageBuffer {
  const memory = new ArrayBuffer(size);
  return { bytes: new Uint8Array(memory), words: new Uint32Array(memory) };
}

export class FuseBuffers {
  readonly #replies: MessageBuffer[][] = CLASSES.map(() => []);
  readonly #receive: MessageBuffer[] = [];

  takeReceive(): MessageBuffer {
    return this.#receive.pop() ?? messageBuffer(RECEIVE_SIZE);
  }

  giveReceive(buffer: MessageBuffer): void {
    if (this.#receive.length < KEPT_BYTES / RECEIVE_SIZE) this.#receive.push(buffer);
  }

  /** With room for a reply header and `length` (up to `MAX_DATA`) bytes. */
  takeReply(length: number): MessageBuffer {
    const size = classOf(length);
    return this.#replies[size]!.pop() ?? messageBuffer(CLASSES[size]! + OUT_HEADER.size);
  }

  giveReply(buffer: MessageBuffer): void {
    const size = classOf(buffer.bytes.length - OUT_HEADER.size);
    const free = this.#replies[size]!;
    if (free.length < Math.max(8, Math.min(KEPT_COUNT, KEPT_BYTES / CLASSES[size]!))) free.push(buffer);
  }
}

function classOf(length: number): number {
  const found = CLASSES.findIndex((size) => length <= size);
  if (found < 0) throw new RangeError(`${length} bytes in a reply, allowed 0..${MAX_DATA}`);
  return found;
}
