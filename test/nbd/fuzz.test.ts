/** Mutated bytes from either side: an error or the end of that one connection, never anything for the others. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { openFileDevice } from "#src/block/file.js";
import { memoryDevice } from "#src/block/memory.js";
import { DiskError } from "#src/errors.js";
import { connectNbd } from "#src/nbd/client.js";
import { negotiate } from "#src/nbd/client-handshake.js";
import { CMD, CMD_FLAG, INFO, NBD_ERRNO, OPT, REP, REPLY_TYPE } from "#src/nbd/codes.js";
import {
  CLIENT_FLAGS,
  EXTENDED_REQUEST,
  GREETING,
  INFO_BLOCK_SIZE,
  INFO_EXPORT,
  OPTION,
  REQUEST,
} from "#src/nbd/layout.js";
import { PendingRequest, ReplyParser } from "#src/nbd/reply-parser.js";
import { type Export, type NbdServer, serveNbd } from "#src/nbd/server.js";
import { tempDir } from "../support/temp-dir.js";
import { sparseDevice } from "./devices.js";
import { be16, be32, RawClient, string } from "./raw-client.js";
import {
  chunk,
  dataAt,
  errorOf,
  extendedChunk,
  extendedStatusOf,
  holeAt,
  optionReply,
  simpleReply,
  statusOf,
} from "./scripted-server.js";

interface Mutation {
  readonly at: number;
  readonly kind: "flip" | "set" | "cut" | "insert" | "repeat";
  readonly value: number;
}

const mutation: fc.Arbitrary<Mutation> = fc.record({
  at: fc.nat(10_000),
  kind: fc.constantFrom("flip", "set", "cut", "insert", "repeat"),
  value: fc.oneof(fc.nat(255), fc.constantFrom(0, 0x7f, 0x80, 0xff)),
});
const mutations = fc.array(mutation, { minLength: 1, maxLength: 6 });

function mutate(bytes: Buffer, list: readonly Mutation[]): Buffer {
  let result: Buffer = Buffer.from(bytes);
  for (const { at, kind, value } of list) {
    const place = result.length === 0 ? 0 : at % result.length;
    if (kind === "flip") result[place]! ^= 1 << (value % 8);
    else if (kind === "set") result[place] = value;
    else if (kind === "cut")
      result = Buffer.concat([result.subarray(0, place), result.subarray(place + 1 + (value % 9))]);
    else if (kind === "insert")
      result = Buffer.concat([result.subarray(0, place), Buffer.alloc(1 + (value % 9), value), result.subarray(place)]);
    else result = Buffer.concat([result, result.subarray(place, place + value)]);
  }
  return result;
}

describe("a server under mutated clients", () => {
  const DISK = 1 << 20;
  const path = join(tempDir(), "s");
  const disk = join(tempDir(), "driven.dsk");
  let file: BlockDevice;
  let server: NbdServer;
  let witness: BlockDevice;

  beforeAll(async () => {
    const dirtyBitmap = {
      name: "b",
      async *runs(_offset: number, length: number) {
        yield { length, dirty: true };
      },
    };
    writeFileSync(disk, Buffer.alloc(DISK));
    file = await openFileDevice(disk, { writable: true });
    const exports = new Map<string, Export>([
      ["victim", { device: sparseDevice(DISK), fastZero: true, dirtyBitmap }],
      ["driven", { device: file, fastZero: true }], // by a thread
      ["other", { device: memoryDevice(DISK) }],
    ]);
    server = await serveNbd({ path, exports, limits: { handshakeTimeoutMs: 1000, bytesInFlight: 4 << 20 } });
    witness = await connectNbd(server.uri("other"));
  });
  afterAll(async () => {
    await witness.close();
    await server.close();
    await file.close();
  });

  const option = (code: number, ...data: Uint8Array[]) => {
    const payload = Buffer.concat(data);
    return Buffer.concat([OPTION.encode({ option: code, length: payload.length }), payload]);
  };
  const request = (type: number, offset: number, length: number, flags = 0) =>
    Buffer.concat([
      REQUEST.encode({ flags, type, cookie: Buffer.alloc(8, type), offset: BigInt(offset), length }),
      Buffer.alloc(type === CMD.WRITE ? length : 0, 0x77),
    ]);
  const extendedRequest = (type: number, offset: number, length: number, flags = 0) =>
    Buffer.concat([
      EXTENDED_REQUEST.encode({
        flags,
        type,
        cookie: Buffer.alloc(8, type),
        offset: BigInt(offset),
        length: BigInt(length),
      }),
      Buffer.alloc((flags & CMD_FLAG.PAYLOAD_LEN) !== 0 ? length : 0, 0x77),
    ]);
  const handshakeFor = (name: string, headers: number) =>
    Buffer.concat([
      CLIENT_FLAGS.encode({ flags: 3 }),
      option(OPT.LIST),
      option(headers),
      option(OPT.LIST_META_CONTEXT, string(name), be32(2), string("base:"), string("qemu:")),
      option(OPT.SET_META_CONTEXT, string(name), be32(2), string("base:allocation"), string("qemu:dirty-bitmap:b")),
      option(OPT.INFO, string(name), be16(1), be16(INFO.NAME)),
      option(OPT.GO, string(name), be16(1), be16(INFO.BLOCK_SIZE)),
    ]);
  const requestsOf = (make: typeof request, payload: number) =>
    Buffer.concat([
      make(CMD.WRITE, 4096, 1024, CMD_FLAG.FUA | payload),
      make(CMD.READ, 0, 65536),
      make(CMD.READ, 4096, 512, CMD_FLAG.DF),
      make(CMD.BLOCK_STATUS, 0, DISK),
      make(CMD.WRITE_ZEROES, 0, 8192, CMD_FLAG.NO_HOLE),
      make(CMD.TRIM, 8192, 4096),
      make(CMD.CACHE, 0, 65536),
      make(CMD.FLUSH, 0, 0),
    ]);
  const compact = requestsOf(request, 0);
  const extended = requestsOf(extendedRequest, CMD_FLAG.PAYLOAD_LEN);

  async function sendAndLeave(bytes: Buffer, split: number): Promise<void> {
    const client = await RawClient.connect(path);
    await client.read(GREETING.size);
    for (let at = 0; at < bytes.length; at += split) client.write(bytes.subarray(at, at + split));
    client.socket.end(); // the server answers what it understood, then ends its half too
    await client.end();
  }

  let round = 0;
  async function othersWork(): Promise<void> {
    const data = Buffer.alloc(4096, ++round & 0xff);
    const offset = (round * 4096) % DISK;
    await witness.write(offset, data);
    const back = Buffer.alloc(4096);
    await witness.read(offset, back);
    expect(back).toEqual(data);
  }

  test.each([
    ["in the handshake", Buffer.alloc(0), handshakeFor("victim", OPT.STRUCTURED_REPLY), compact],
    ["in the requests", handshakeFor("victim", OPT.STRUCTURED_REPLY), compact, Buffer.alloc(0)],
    ["in extended requests", handshakeFor("victim", OPT.EXTENDED_HEADERS), extended, Buffer.alloc(0)],
    ["in requests to a thread", handshakeFor("driven", OPT.STRUCTURED_REPLY), compact, Buffer.alloc(0)],
    ["in extended requests to a thread", handshakeFor("driven", OPT.EXTENDED_HEADERS), extended, Buffer.alloc(0)],
  ])("%s", async (_where, before, part, after) => {
    const property = fc.asyncProperty(mutations, fc.integer({ min: 1, max: 4000 }), async (list, split) => {
      await sendAndLeave(Buffer.concat([before, mutate(part, list), after]), split);
      await othersWork();
    });
    await fc.assert(property, { numRuns: 80 });
    expect(server.connectionCount("other")).toBe(1);
    await expect.poll(() => server.connectionCount()).toBe(1);
  });

  test("noise of any kind", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (noise) => {
        await sendAndLeave(Buffer.from(noise), 64);
        await othersWork();
      }),
      { numRuns: 60 },
    );
  });
});

describe("the client under mutated servers", () => {
  const asked = { type: CMD.READ, offset: 4096, length: 4096, cookie: Buffer.from([0, 0, 0, 0, 0, 0, 0, 1]) };
  const status = { ...asked, offset: 0, cookie: Buffer.from([0, 0, 0, 0, 0, 0, 0, 2]) };
  const flush = { ...asked, offset: 0, cookie: Buffer.from([0, 0, 0, 0, 0, 0, 0, 3]) };
  const structured = Buffer.concat([
    simpleReply(flush, 0),
    chunk(asked, REPLY_TYPE.OFFSET_HOLE, false, holeAt(4096, 2048)),
    chunk(status, REPLY_TYPE.BLOCK_STATUS, true, statusOf(7, [4096, 0], [4096, 3])),
    chunk(asked, REPLY_TYPE.ERROR_OFFSET, false, errorOf(NBD_ERRNO.EIO, "words", Buffer.alloc(8))),
    chunk(asked, REPLY_TYPE.OFFSET_DATA, true, dataAt(6144, Buffer.alloc(2048, 1))),
  ]);
  const extended = Buffer.concat([
    extendedChunk(flush, REPLY_TYPE.NONE, true),
    extendedChunk(asked, REPLY_TYPE.OFFSET_HOLE, false, holeAt(4096, 2048)),
    extendedChunk(status, REPLY_TYPE.BLOCK_STATUS_EXT, true, extendedStatusOf(7, [4096, 0], [2 ** 40, 3])),
    extendedChunk(asked, REPLY_TYPE.ERROR_OFFSET, false, errorOf(NBD_ERRNO.EIO, "words", Buffer.alloc(8))),
    extendedChunk(asked, REPLY_TYPE.OFFSET_DATA, true, dataAt(6144, Buffer.alloc(2048, 1))),
  ]);

  test.each([
    ["structured", structured, false],
    ["extended", extended, true],
  ])("%s replies: taken apart, or refused as PROTOCOL", (_kind, stream, extendedHeaders) => {
    fc.assert(
      fc.property(mutations, fc.integer({ min: 1, max: 5000 }), (list, split) => {
        const bytes = mutate(stream, list);
        const around = Buffer.alloc(8192, 0xee);
        const waiting = new Map([
          [1, new PendingRequest(CMD.READ, 4096, 4096, around.subarray(2048, 6144))],
          [2, new PendingRequest(CMD.BLOCK_STATUS, 0, 8192)],
          [3, new PendingRequest(CMD.FLUSH, 0, 0)],
        ]);
        const events = {
          find: (high: number, low: number) => (high === 0 ? waiting.get(low) : undefined),
          done: (_request: PendingRequest, cookie: number) => void waiting.delete(cookie),
        };
        const parser = new ReplyParser(events, { structuredReplies: true, extendedHeaders, allocationContext: 7 }, "x");
        try {
          for (let at = 0; at < bytes.length; at += split) parser.receive(bytes.subarray(at, at + split));
        } catch (error) {
          expect(error).toBeInstanceOf(DiskError);
          expect(error).toMatchObject({ code: "PROTOCOL" });
        }
        // Whatever was said, no byte beside the read's own was touched.
        expect(Buffer.concat([around.subarray(0, 2048), around.subarray(6144)]).every((byte) => byte === 0xee)).toBe(
          true,
        );
      }),
      { numRuns: 2000 },
    );
  });

  test("handshakes: an agreement within its bounds, or an error", async () => {
    const stream = Buffer.concat([
      GREETING.encode({ handshakeFlags: 3 }),
      optionReply(OPT.EXTENDED_HEADERS, REP.ERR_UNSUP),
      optionReply(OPT.STRUCTURED_REPLY, REP.ACK),
      optionReply(OPT.SET_META_CONTEXT, REP.META_CONTEXT, Buffer.from("\0\0\0\x01base:allocation")),
      optionReply(OPT.SET_META_CONTEXT, REP.ACK),
      optionReply(OPT.GO, REP.INFO, INFO_EXPORT.encode({ size: 1 << 30, flags: 0xded })),
      optionReply(
        OPT.GO,
        REP.INFO,
        INFO_BLOCK_SIZE.encode({ minimum: 512, preferred: 4096, maximumPayload: 32 << 20 }),
      ),
      optionReply(OPT.GO, REP.ACK),
    ]);
    const ended = new DiskError("IO", "the server closed the connection");
    await fc.assert(
      fc.asyncProperty(mutations, async (list) => {
        let rest = mutate(stream, list);
        const receive = async (length: number) => {
          if (rest.length < length) throw ended;
          const bytes = rest.subarray(0, length);
          rest = rest.subarray(length);
          return bytes;
        };
        const outcome = await negotiate({ send: () => {}, receive }, "x", "nbd://x").catch((error) => error);
        if (outcome instanceof Error) {
          expect(outcome).toBeInstanceOf(DiskError);
        } else {
          expect(outcome.size % outcome.blockSize).toBe(0);
          expect(outcome.maximumPayload).toBeGreaterThanOrEqual(outcome.blockSize);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
