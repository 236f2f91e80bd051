/** What a frontend's users ask for, and the requests that it becomes. They outlive the ring that they were first put into. */
import type { UseBytes } from "../block/lent-read.js";
import { DiskError } from "../errors.js";
import { BLKIF_OP, BLKIF_RSP } from "./blkif/layout.js";

/** One call of read, write, flush or discard: done when all of its requests are. */
export interface Operation {
  code: number;
  /** What is written, or where to what is read goes. Undefined where no data is moved, and while it is lent instead. */
  buffer: Uint8Array | undefined;
  /** Gets what is read, in one piece, where it arrived. */
  use: UseBytes | undefined;
  left: number;
  status: number;
  resolve: () => void;
  reject(error: Error): void;
}

/** A part of an operation that fits one request. Bytes. */
export interface Request {
  readonly operation: Operation;
  /** Its place among all requests of the thread's rings. */
  readonly order: number;
  readonly offset: number;
  readonly length: number;
  /** Where it starts in the operation's buffer. */
  readonly from: number;
}

let requestsMade = 0;

/** All of an operation as one request. */
export function wholeRequest(operation: Operation, offset: number, length: number): Request {
  return { operation, order: requestsMade++, offset, length, from: 0 };
}

export function movesData({ code }: Operation): boolean {
  return code === BLKIF_OP.READ || code === BLKIF_OP.WRITE;
}

/** Of an operation of which `length` bytes are asked for: its own, or, when what is read was to be lent, one that is lent in the end. */
export function bufferOf(operation: Operation, length: number): Uint8Array {
  const { use, resolve } = operation;
  if (operation.buffer || !use) return operation.buffer!;
  const buffer = new Uint8Array(length);
  operation.buffer = buffer;
  operation.use = undefined;
  operation.resolve = () => {
    use(buffer);
    resolve();
  };
  return buffer;
}

/** In its place: parts of up to `most` bytes of data. What carries none stays one. */
export function splitRequest(request: Request, most: number): Request[] {
  const { operation, offset, length, from } = request;
  const data = movesData(operation);
  const count = data ? Math.ceil(length / most) : 1;
  if (count === 1) return [request];
  bufferOf(operation, length); // in several pieces nothing can be lent
  operation.left += count - 1;
  return Array.from({ length: count }, (_, i) => ({
    operation,
    order: requestsMade++,
    offset: offset + i * most,
    length: Math.min(most, length - i * most),
    from: from + i * most,
  }));
}

/** One request of the operation has ended, here or wherever it was sent: the last one settles it. */
export function endRequest(operation: Operation, status: number): void {
  if (status !== BLKIF_RSP.OKAY) operation.status = status;
  if (--operation.left > 0) return;
  if (operation.status === BLKIF_RSP.OKAY) operation.resolve();
  else {
    const what = `Cannot ${VERBS[operation.code]} the device: the backend answered status ${operation.status}`;
    operation.reject(new DiskError("IO", what));
  }
}

const VERBS: Readonly<Record<number, string>> = {
  [BLKIF_OP.READ]: "read",
  [BLKIF_OP.WRITE]: "write",
  [BLKIF_OP.WRITE_BARRIER]: "flush",
  [BLKIF_OP.FLUSH_DISKCACHE]: "flush",
  [BLKIF_OP.DISCARD]: "discard on",
};
