/** The kernel's side of a FUSE connection, played by a test: requests as bytes in, replies as bytes out. */
import type { BlockDevice } from "#src/block/device.js";
import {
  FALLOCATE_IN,
  FUSE_OP,
  IN_HEADER,
  INIT_IN,
  INTERRUPT_IN,
  IO_IN,
  LSEEK_IN,
  OPEN_IN,
  OUT_HEADER,
} from "#src/kernel/fuse-layout.js";
import { FuseSession } from "#src/kernel/fuse-session.js";

export interface Reply {
  readonly unique: number;
  readonly error: number;
  readonly body: Uint8Array;
}

const EAGAIN = -11;

export class FuseWire {
  readonly session: FuseSession;
  readonly replies: Reply[] = [];
  /** What `read` gives before any request, one a time. */
  readonly errors: number[] = [];
  readonly events: string[] = [];
  readonly #requests: Uint8Array[] = [];
  #unique = 2;

  constructor(device: BlockDevice, options: { name?: string; size?: number } = {}) {
    this.session = new FuseSession({
      channel: {
        read: (into) => this.#read(into),
        write: (reply, length, data) => this.#write(reply.slice(0, length), data?.slice()),
      },
      device,
      name: "disk",
      ...options,
      arm: () => this.events.push("arm"),
      wake: () => this.events.push("wake"),
      onEnd: (errno) => this.events.push(`end ${errno}`),
    });
  }

  /** Queues raw bytes as one message. */
  push(bytes: Uint8Array): void {
    this.#requests.push(bytes);
  }

  /** Queues a request and gives its name. `node` 2 is the file. */
  request(opcode: number, body: Uint8Array = new Uint8Array(0), node = 2): number {
    const unique = this.#unique;
    this.#unique += 2;
    const header = IN_HEADER.encode({
      ...{ length: IN_HEADER.size + body.length, opcode, unique: BigInt(unique), node: BigInt(node) },
      ...{ uid: 0, gid: 0, pid: 1, extensionLength: 0 },
    });
    this.push(Buffer.concat([header, body]));
    return unique;
  }

  /** The same, served to its end: the reply. */
  async ask(opcode: number, body?: Uint8Array, node?: number): Promise<Reply> {
    const unique = this.request(opcode, body, node);
    this.session.take();
    return this.reply(unique);
  }

  async reply(unique: number): Promise<Reply> {
    for (;;) {
      const found = this.replies.find((reply) => reply.unique === unique);
      if (found) return found;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  read(offset: number | bigint, size: number): Promise<Reply> {
    return this.ask(FUSE_OP.READ, ioBody(offset, size));
  }

  write(offset: number | bigint, data: Uint8Array, size = data.length): Promise<Reply> {
    return this.ask(FUSE_OP.WRITE, Buffer.concat([ioBody(offset, size), data]));
  }

  fallocate(mode: number, offset: number, size: number): Promise<Reply> {
    return this.ask(FUSE_OP.FALLOCATE, FALLOCATE_IN.encode({ handle: 0n, offset, size, mode }));
  }

  seek(whence: "data" | "hole", offset: number): Promise<Reply> {
    return this.ask(FUSE_OP.LSEEK, LSEEK_IN.encode({ handle: 0n, offset, whence }));
  }

  #read(into: Uint8Array): number {
    const error = this.errors.shift();
    if (error !== undefined) return error;
    const request = this.#requests.shift();
    if (!request) return EAGAIN;
    into.set(request);
    return request.length;
  }

  /** Copied: the session uses its buffers again. */
  #write(reply: Uint8Array, data = new Uint8Array(0)): number {
    const { length, error, unique } = OUT_HEADER.decode(reply);
    const body = reply.slice(OUT_HEADER.size);
    if (length !== reply.length + data.length)
      throw new Error(`a reply of ${reply.length} bytes and ${data.length} says ${length}`);
    this.replies.push({ unique: Number(unique), error, body: data.length > 0 ? data : body });
    return length;
  }
}

export function ioBody(offset: number | bigint, size: number): Uint8Array {
  return IO_IN.encode({ handle: 0n, offset: BigInt(offset), size, ioFlags: 0, lockOwner: 0n, flags: 0 });
}

export const initBody = (major: number, minor: number, flags = 0xffff_ffff) =>
  INIT_IN.encode({ major, minor, maxReadahead: 131072, flags });

export const openBody = (flags: number) => OPEN_IN.encode({ flags, openFlags: 0 });

export const interruptBody = (unique: number) => INTERRUPT_IN.encode({ unique: BigInt(unique) });

/** A name as the kernel sends it. */
export const nameBody = (name: string) => Buffer.from(`${name}\0`);
