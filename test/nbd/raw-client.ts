/** A client that says exactly what a test tells it to, right or wrong. */

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { CLIENT_FLAG, CMD, OPT } from "#src/nbd/codes.js";
import {
  CLIENT_FLAGS,
  GREETING,
  OPTION,
  OPTION_REPLY,
  REQUEST,
  SIMPLE_REPLY,
  STRUCTURED_REPLY,
} from "#src/nbd/layout.js";

export interface RawReply {
  readonly type: number;
  readonly data: Buffer;
}

export class RawClient {
  readonly socket: Socket;
  #input: Buffer = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#input = Buffer.concat([this.#input, chunk]);
      this.#wake();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#ended = true;
      this.#wake();
    });
  }

  static async connect(path: string): Promise<RawClient> {
    const socket = connect({ path });
    const client = new RawClient(socket);
    await once(socket, "connect");
    return client;
  }

  /** On a stream that somebody else has made. */
  static on(stream: Socket): RawClient {
    return new RawClient(stream);
  }

  /** Past the greeting and the client flags. */
  static async greeted(path: string, flags = CLIENT_FLAG.FIXED_NEWSTYLE | CLIENT_FLAG.NO_ZEROES): Promise<RawClient> {
    const client = await RawClient.connect(path);
    GREETING.decode(await client.read(GREETING.size));
    client.write(CLIENT_FLAGS.encode({ flags }));
    return client;
  }

  /** In the transmission phase of an export. */
  static async transmitting(
    path: string,
    name: string,
    { structured = true, allocation = true } = {},
  ): Promise<RawClient> {
    const client = await RawClient.greeted(path);
    if (structured) await client.option(OPT.STRUCTURED_REPLY);
    if (structured && allocation)
      await client.option(OPT.SET_META_CONTEXT, string(name), be32(1), string("base:allocation"));
    await client.option(OPT.GO, string(name), be16(0));
    return client;
  }

  write(...parts: Uint8Array[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  async read(length: number): Promise<Buffer> {
    while (this.#input.length < length) {
      if (this.#ended) throw new Error(`the connection ended, ${this.#input.length} of ${length} bytes came`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const bytes = this.#input.subarray(0, length);
    this.#input = this.#input.subarray(length);
    return bytes;
  }

  /** Resolves when the server has closed the connection, with what came before. */
  async end(): Promise<Buffer> {
    while (!this.#ended) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.#input;
  }

  /** Sends an option and returns its replies up to ACK or an error. */
  async option(option: number, ...data: Uint8Array[]): Promise<RawReply[]> {
    const payload = Buffer.concat(data);
    this.write(OPTION.encode({ option, length: payload.length }), payload);
    const replies: RawReply[] = [];
    for (;;) {
      const { type, length } = OPTION_REPLY.decode(await this.read(OPTION_REPLY.size));
      replies.push({ type, data: await this.read(length) });
      if (type === 1 || type > 2 ** 31) return replies;
    }
  }

  request(
    type: number,
    offset: number | bigint,
    length: number,
    options: { flags?: number; cookie?: number; data?: Uint8Array } = {},
  ): void {
    const cookie = Buffer.alloc(8, options.cookie ?? 1);
    this.write(
      REQUEST.encode({ flags: options.flags ?? 0, type, cookie, offset: BigInt(offset), length }),
      options.data ?? new Uint8Array(type === CMD.WRITE ? length : 0),
    );
  }

  async simpleReply(): Promise<{ error: number; cookie: number }> {
    const { error, cookie } = SIMPLE_REPLY.decode(await this.read(SIMPLE_REPLY.size));
    return { error, cookie: cookie[0]! };
  }

  async chunk(): Promise<{ last: boolean; type: number; cookie: number; payload: Buffer }> {
    const { flags, type, cookie, length } = STRUCTURED_REPLY.decode(await this.read(STRUCTURED_REPLY.size));
    return { last: flags === 1, type, cookie: cookie[0]!, payload: await this.read(length) };
  }

  /** The error value of one command that is answered by a simple reply. */
  async outcome(...args: Parameters<RawClient["request"]>): Promise<number> {
    this.request(...args);
    return (await this.simpleReply()).error;
  }

  async close(): Promise<void> {
    this.socket.destroy();
    await this.end();
  }
}

export function be16(value: number): Buffer {
  const buffer = Buffer.alloc(2);
  buffer.writeUInt16BE(value);
  return buffer;
}

export function be32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value);
  return buffer;
}

/** A 32-bit length and the text. */
export function string(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([be32(bytes.length), bytes]);
}
