/** A server that says exactly what a test tells it to, right or wrong. */
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { CMD, OPT, REP, TRANSMISSION_FLAG } from "#src/nbd/codes.js";
import {
  BLOCK_DESCRIPTOR,
  BLOCK_DESCRIPTOR_EXT,
  BLOCK_STATUS,
  BLOCK_STATUS_EXT,
  CLIENT_FLAGS,
  ERROR_CHUNK,
  EXPORT_NAME_REPLY,
  EXTENDED_REPLY,
  GREETING,
  INFO_BLOCK_SIZE,
  INFO_EXPORT,
  OFFSET_DATA,
  OFFSET_HOLE,
  OPTION,
  OPTION_REPLY,
  REQUEST,
  SIMPLE_REPLY,
  STRUCTURED_REPLY,
} from "#src/nbd/layout.js";
import { tempDir } from "../support/temp-dir.js";

export interface AskedRequest {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
  readonly cookie: Uint8Array;
}

export interface Script {
  readonly size?: number;
  readonly flags?: number;
  readonly minimum?: number;
  /** False: the server knows neither structured replies nor GO. */
  readonly modern?: boolean;
  readonly handshakeFlags?: number;
  /** Replaces everything that the server says first. */
  readonly greeting?: Uint8Array;
  /** Replaces the reply to an option, when it returns something. */
  option?(option: number): Uint8Array | undefined;
  /** Answers a request with bytes. */
  request?(request: AskedRequest): Uint8Array | undefined;
}

export interface ScriptedServer {
  readonly uri: string;
  readonly commands: number[];
  close(): Promise<void>;
}

export async function scriptedServer(script: Script): Promise<ScriptedServer> {
  const path = join(tempDir(), "s");
  const commands: number[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    converse(socket, script, commands).catch(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    uri: `nbd+unix:///x?socket=${path}`,
    commands,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function converse(socket: Socket, script: Script, commands: number[]): Promise<void> {
  const read = reader(socket);
  socket.write(script.greeting ?? GREETING.encode({ handshakeFlags: script.handshakeFlags ?? 3 }));
  await read(CLIENT_FLAGS.size);
  await options(socket, script, read);
  for (;;) {
    const { type, offset, length, cookie } = REQUEST.decode(await read(REQUEST.size));
    commands.push(type);
    if (type === CMD.DISC) return void socket.end();
    if (type === CMD.WRITE) await read(length);
    const reply = script.request?.({ type, offset: Number(offset), length, cookie });
    if (reply) socket.write(reply);
  }
}

async function options(socket: Socket, script: Script, read: (length: number) => Promise<Buffer>): Promise<void> {
  const flags = script.flags ?? TRANSMISSION_FLAG.HAS_FLAGS;
  const size = script.size ?? 1 << 20;
  for (;;) {
    const { option, length } = OPTION.decode(await read(OPTION.size));
    await read(length);
    const own = script.option?.(option);
    if (own) {
      socket.write(own);
    } else if (option === OPT.EXPORT_NAME) {
      return void socket.write(EXPORT_NAME_REPLY.encode({ size, flags }));
    } else if (script.modern === false) {
      socket.write(optionReply(option, REP.ERR_UNSUP));
    } else if (option === OPT.EXTENDED_HEADERS || option === OPT.STARTTLS) {
      socket.write(optionReply(option, REP.ERR_UNSUP));
    } else if (option === OPT.SET_META_CONTEXT) {
      socket.write(
        Buffer.concat([
          optionReply(option, REP.META_CONTEXT, Buffer.from("\0\0\0\x07base:allocation")),
          optionReply(option, REP.ACK),
        ]),
      );
    } else if (option === OPT.GO) {
      const sizes = INFO_BLOCK_SIZE.encode({
        minimum: script.minimum ?? 1,
        preferred: 4096,
        maximumPayload: 0xffff_ffff,
      });
      socket.write(
        Buffer.concat([
          optionReply(option, REP.INFO, INFO_EXPORT.encode({ size, flags })),
          optionReply(option, REP.INFO, sizes),
          optionReply(option, REP.ACK),
        ]),
      );
      return;
    } else {
      socket.write(optionReply(option, REP.ACK));
    }
  }
}

function reader(socket: Socket): (length: number) => Promise<Buffer> {
  let input: Buffer = Buffer.alloc(0);
  let wake = () => {};
  let ended = false;
  socket.on("data", (chunk: Buffer) => {
    input = Buffer.concat([input, chunk]);
    wake();
  });
  socket.on("close", () => {
    ended = true;
    wake();
  });
  return async (length) => {
    while (input.length < length) {
      if (ended) throw new Error("the client hung up");
      await new Promise<void>((resolve) => (wake = resolve));
    }
    const bytes = input.subarray(0, length);
    input = input.subarray(length);
    return bytes;
  };
}

export function optionReply(option: number, type: number, data: Uint8Array = new Uint8Array()): Buffer {
  return Buffer.concat([OPTION_REPLY.encode({ option, type, length: data.length }), data]);
}

export function simpleReply({ cookie }: AskedRequest, error = 0, data: Uint8Array = new Uint8Array()): Buffer {
  return Buffer.concat([SIMPLE_REPLY.encode({ error, cookie }), data]);
}

export function chunk({ cookie }: AskedRequest, type: number, last: boolean, ...payload: Uint8Array[]): Buffer {
  const data = Buffer.concat(payload);
  return Buffer.concat([STRUCTURED_REPLY.encode({ flags: last ? 1 : 0, type, cookie, length: data.length }), data]);
}

export function extendedChunk(
  { cookie, offset }: AskedRequest,
  type: number,
  last: boolean,
  ...payload: Uint8Array[]
): Buffer {
  const data = Buffer.concat(payload);
  const header = { flags: last ? 1 : 0, type, cookie, offset: BigInt(offset), length: BigInt(data.length) };
  return Buffer.concat([EXTENDED_REPLY.encode(header), data]);
}

export const extendedStatusOf = (contextId: number, ...runs: readonly (readonly [length: number, status: number])[]) =>
  Buffer.concat([
    BLOCK_STATUS_EXT.encode({ contextId, count: runs.length }),
    ...runs.map(([length, status]) => BLOCK_DESCRIPTOR_EXT.encode({ length: BigInt(length), status: BigInt(status) })),
  ]);

export const dataAt = (offset: number, data: Uint8Array) =>
  Buffer.concat([OFFSET_DATA.encode({ offset: BigInt(offset) }), data]);
export const holeAt = (offset: number, length: number) =>
  Buffer.from(OFFSET_HOLE.encode({ offset: BigInt(offset), length }));
export const errorOf = (error: number, text = "", tail: Uint8Array = new Uint8Array()) =>
  Buffer.concat([ERROR_CHUNK.encode({ error, messageLength: text.length }), Buffer.from(text), tail]);
export const statusOf = (contextId: number, ...runs: readonly (readonly [length: number, status: number])[]) =>
  Buffer.concat([
    BLOCK_STATUS.encode({ contextId }),
    ...runs.map(([length, status]) => BLOCK_DESCRIPTOR.encode({ length, status })),
  ]);
