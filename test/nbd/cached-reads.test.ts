/** Reads that are answered while they are looked at, mixed with those that are not: the same bytes, by any kind of reply. */
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { BufferPool } from "#src/nbd/buffer-pool.js";
import { CMD, CMD_FLAG, NBD_ERRNO } from "#src/nbd/codes.js";
import type { CachedBytes } from "#src/nbd/exports.js";
import { EXTENDED_REQUEST, REQUEST } from "#src/nbd/layout.js";
import { PendingRequest, ReplyParser } from "#src/nbd/reply-parser.js";
import { Transmission, type Wire } from "#src/nbd/transmission.js";

const SIZE = 1 << 20;
const KINDS = ["simple", "structured", "extended"] as const;

/** A transmission over a device of random bytes with a hole, and a client's parser at its other end. */
async function connected(kind: (typeof KINDS)[number], cached: (bytes: Buffer) => CachedBytes) {
  const device = memoryDevice(SIZE);
  const bytes = randomBytes(SIZE);
  bytes.fill(0, SIZE / 2, SIZE / 2 + 65536);
  await device.write(0, bytes);
  await device.zero(SIZE / 2, 65536);
  const agreed = {
    structuredReplies: kind !== "simple",
    extendedHeaders: kind === "extended",
    allocationContext: undefined,
  };
  const waiting = new Map<number, { request: PendingRequest; done: () => void }>();
  const parser = new ReplyParser(
    {
      find: (_high, low) => waiting.get(low)?.request,
      done: (_request, low) => {
        waiting.get(low)!.done();
        waiting.delete(low);
      },
    },
    agreed,
    "the transmission",
  );
  const sending: { parts: readonly Uint8Array[]; sent: () => void }[] = [];
  const flushes: (() => void)[] = [];
  let paused = false;
  let ended = false;
  const wire: Wire = {
    send: (parts, sent) => void sending.push({ parts, sent }),
    schedule: (flush) => void flushes.push(flush),
    pause: () => {
      paused = true;
    },
    resume: () => {
      paused = false;
    },
    end: () => {
      ended = true;
    },
    failed: () => {},
  };
  const session = { ...agreed, contexts: [], name: "", export: { device, cached: cached(bytes) } };
  const limits = { bytesInFlight: 32 << 20, requestsInFlight: 1024 };
  const transmission = new Transmission(session, limits, new BufferPool(1 << 20), wire);
  let cookie = 0;
  return {
    bytes,
    transmission,
    sending,
    get paused() {
      return paused;
    },
    get ended() {
      return ended;
    },
    /** The header of a request whose reply goes to `request`; `done` is called at its end. */
    header(request: PendingRequest, done: () => void): Buffer {
      waiting.set(++cookie, { request, done });
      const { flags, type, offset, length } = request;
      const fields = { flags, type, cookie: Buffer.alloc(8), offset: BigInt(offset) };
      fields.cookie.writeUInt32BE(cookie, 4);
      if (kind !== "extended") return Buffer.from(REQUEST.encode({ ...fields, length }));
      return Buffer.from(EXTENDED_REQUEST.encode({ ...fields, length: BigInt(length) }));
    },
    /** Lets what was sent arrive, some bytes at a time. */
    async deliver(split = 70_000) {
      for (let idle = 0; idle < 3; ) {
        await new Promise((resolve) => setImmediate(resolve));
        for (const flush of flushes.splice(0)) flush();
        const sent = sending.shift();
        if (!sent) {
          idle++;
          continue;
        }
        const all = Buffer.concat(sent.parts);
        for (let at = 0; at < all.length; at += split) parser.receive(all.subarray(at, at + split));
        sent.sent();
      }
    },
  };
}

/** Whether each read is at hand is as `answers` says, in turn; one that is not leaves rubbish behind. */
const cachedBy = (answers: readonly boolean[], maps = false) => {
  let turn = 0;
  return (bytes: Buffer): CachedBytes => ({
    read(offset, length, block, at) {
      if (answers[turn++ % answers.length]) return bytes.copy(block, at, offset, offset + length) === length;
      block.fill(0x5a, at, at + (length >> 1));
      return false;
    },
    isData: (offset, length) => maps && (offset + length <= SIZE / 2 || offset >= SIZE / 2 + 65536),
  });
};

const blocks = (bytes: number) => fc.nat(bytes / 512).map((count) => count * 512);
const reads = fc.array(
  fc.record({ offset: blocks(SIZE), length: fc.oneof(blocks(8192), blocks(SIZE)), df: fc.boolean() }),
  { minLength: 1, maxLength: 40 },
);

describe.each(KINDS)("with %s replies", (kind) => {
  test("each read gets its bytes, whoever answers it", async () => {
    await fc.assert(
      fc.asyncProperty(
        reads,
        fc.array(fc.boolean(), { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        async (list, answers, maps) => {
          const client = await connected(kind, cachedBy(answers, maps));
          let done = 0;
          const requests = list.map(({ offset, length, df }) => {
            const flags = df && kind !== "simple" ? CMD_FLAG.DF : 0;
            return new PendingRequest(CMD.READ, offset, length, Buffer.alloc(length, 0xee), flags);
          });
          const headers = requests.map((request) => client.header(request, () => done++));
          const stream = Buffer.concat(headers);
          const half = stream.length >> 1;
          client.transmission.receive(stream.subarray(0, half));
          client.transmission.receive(stream.subarray(half));
          await client.deliver();
          expect(done).toBe(requests.length);
          expect(client.transmission.inFlight).toBe(0);
          expect(client.transmission.isClean).toBe(true);
          for (const { offset, length, into, errno } of requests) {
            const fits = offset + length <= SIZE;
            expect(errno).toBe(fits ? 0 : NBD_ERRNO.EINVAL);
            if (fits) expect(client.bytes.subarray(offset, offset + length).equals(into!)).toBe(true);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("no more is read ahead of a client that takes nothing than a few blocks", async () => {
    let read = 0;
    const client = await connected(kind, (bytes) => ({
      read(offset, length, block, at) {
        read += length;
        return bytes.copy(block, at, offset, offset + length) === length;
      },
      isData: () => true,
    }));
    let done = 0;
    const length = 128 << 10;
    const stream = Array.from({ length: 500 }, (_, i) =>
      client.header(new PendingRequest(CMD.READ, (i % 8) * length, length, Buffer.alloc(length)), () => done++),
    );
    client.transmission.receive(Buffer.concat(stream));
    await new Promise((resolve) => setImmediate(resolve));
    expect(client.paused).toBe(true);
    expect(read).toBeLessThanOrEqual(3 * length);
    await client.deliver();
    expect(done).toBe(500);
    expect(client.paused).toBe(false);
    expect(client.ended).toBe(false);
  });
});
