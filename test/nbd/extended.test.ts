/** Extended headers and metadata contexts, spoken by hand. */
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { connectNbd } from "#src/nbd/client.js";
import { CMD, CMD_FLAG, DIRTY, NBD_ERRNO, OPT, REP, REPLY_TYPE, STATE } from "#src/nbd/codes.js";
import { EXTENDED_REPLY, EXTENDED_REQUEST, OPTION } from "#src/nbd/layout.js";
import { type DirtyBitmap, type Export, serveNbd } from "#src/nbd/server.js";
import { tempDir } from "../support/temp-dir.js";
import { collect, sparseDevice } from "./devices.js";
import { be16, be32, RawClient, string } from "./raw-client.js";

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

async function serve(exported: Export): Promise<string> {
  const path = join(tempDir(), "s");
  open.push(await serveNbd({ path, exports: new Map([["x", exported]]) }));
  return path;
}

async function greeted(path: string): Promise<RawClient> {
  const raw = await RawClient.greeted(path);
  open.push(raw);
  return raw;
}

/** In the transmission phase, with extended headers and these contexts. */
async function extended(path: string, ...contexts: string[]): Promise<RawClient> {
  const raw = await greeted(path);
  expect((await raw.option(OPT.EXTENDED_HEADERS))[0]!.type).toBe(REP.ACK);
  if (contexts.length > 0)
    await raw.option(OPT.SET_META_CONTEXT, string("x"), be32(contexts.length), ...contexts.map(string));
  await raw.option(OPT.GO, string("x"), be16(0));
  return raw;
}

function ask(raw: RawClient, type: number, offset: number | bigint, length: number | bigint, flags = 0, data?: Buffer) {
  const request = { flags, type, cookie: Buffer.alloc(8, 9), offset: BigInt(offset), length: BigInt(length) };
  raw.write(EXTENDED_REQUEST.encode(request), data ?? Buffer.alloc(0));
}

async function reply(raw: RawClient) {
  const { flags, type, cookie, offset, length } = EXTENDED_REPLY.decode(await raw.read(EXTENDED_REPLY.size));
  expect(Buffer.from(cookie)).toEqual(Buffer.alloc(8, 9));
  return { last: flags === 1, type, offset, payload: await raw.read(Number(length)) };
}

const BIG = 2 ** 42;
const bigDevice = (calls: string[] = []) =>
  defineDevice({
    label: "big",
    size: BIG,
    blockSize: 512,
    read: async () => {},
    write: async () => {},
    zero: async (offset, length) => void calls.push(`zero ${offset} ${length}`),
    discard: async (offset, length) => void calls.push(`discard ${offset} ${length}`),
    async *extents(offset, length) {
      yield { offset, length, data: false, zero: true, present: true, depth: 0, hostOffset: null };
    },
  });

describe("extended headers", () => {
  test("every reply is a chunk that tells the request's offset", async () => {
    const raw = await extended(await serve({ device: memoryDevice(1 << 20, { blockSize: 512 }) }));
    ask(raw, CMD.WRITE, 512, 512, CMD_FLAG.PAYLOAD_LEN, Buffer.alloc(512, 5));
    expect(await reply(raw)).toEqual({ last: true, type: REPLY_TYPE.NONE, offset: 512n, payload: Buffer.alloc(0) });
    ask(raw, CMD.WRITE, 1024, 512, 0, Buffer.alloc(512, 6)); // a client that forgets the flag
    expect((await reply(raw)).type).toBe(REPLY_TYPE.NONE);
    ask(raw, CMD.READ, 512, 1024);
    const read = await reply(raw);
    expect(read).toMatchObject({ last: true, type: REPLY_TYPE.OFFSET_DATA, offset: 512n });
    expect(read.payload.subarray(8)).toEqual(Buffer.concat([Buffer.alloc(512, 5), Buffer.alloc(512, 6)]));
    ask(raw, CMD.FLUSH, 0, 0);
    expect((await reply(raw)).type).toBe(REPLY_TYPE.NONE);
  });

  test("lengths of 64 bits: zeros, trim and block status beyond 4 GiB", async () => {
    const calls: string[] = [];
    const raw = await extended(await serve({ device: bigDevice(calls), fastZero: true }), "base:allocation");
    ask(raw, CMD.WRITE_ZEROES, 0, 2 ** 40, CMD_FLAG.FAST_ZERO);
    expect((await reply(raw)).type).toBe(REPLY_TYPE.NONE);
    ask(raw, CMD.TRIM, 512, 2 ** 41);
    expect((await reply(raw)).type).toBe(REPLY_TYPE.NONE);
    expect(calls).toEqual([`zero 0 ${2 ** 40}`, `discard 512 ${2 ** 41}`]);
    ask(raw, CMD.BLOCK_STATUS, 0, BIG);
    const { type, payload } = await reply(raw);
    expect(type).toBe(REPLY_TYPE.BLOCK_STATUS_EXT);
    expect([payload.readUInt32BE(0), payload.readUInt32BE(4)]).toEqual([1, 1]);
    expect([payload.readBigUInt64BE(8), payload.readBigUInt64BE(16)]).toEqual([
      BigInt(BIG),
      BigInt(STATE.HOLE | STATE.ZERO),
    ]);
  });

  test.each<[string, number, number | bigint, number | bigint, number, number]>([
    ["a read past 2^64", CMD.READ, 0xffff_ffff_ffff_fe00n, 0xffff_ffff_ffff_fe00n, 0, NBD_ERRNO.EINVAL],
    ["a read of 2^33 bytes", CMD.READ, 0, 2 ** 33, 0, NBD_ERRNO.EINVAL],
    ["zeros past the end", CMD.WRITE_ZEROES, 512, BIG, 0, NBD_ERRNO.ENOSPC],
    ["5 GiB of zeros written by hand", CMD.WRITE_ZEROES, 0, 5 * 2 ** 30, CMD_FLAG.NO_HOLE, NBD_ERRNO.EOVERFLOW],
    ["5 GiB into the cache", CMD.CACHE, 0, 5 * 2 ** 30, 0, NBD_ERRNO.EOVERFLOW],
  ])("%s is refused", async (_what, type, offset, length, flags, errno) => {
    const raw = await extended(await serve({ device: bigDevice() }));
    ask(raw, type, offset, length, flags);
    const { type: kind, payload } = await reply(raw);
    expect([kind, payload.readUInt32BE()]).toEqual([REPLY_TYPE.ERROR, errno]);
  });

  test("a payload that nobody asked for is read past and refused, an endless one ends the connection", async () => {
    const raw = await extended(await serve({ device: bigDevice() }));
    ask(raw, CMD.TRIM, 0, 512, CMD_FLAG.PAYLOAD_LEN, Buffer.alloc(512));
    expect((await reply(raw)).payload.readUInt32BE()).toBe(NBD_ERRNO.EINVAL);
    ask(raw, CMD.FLUSH, 0, 0);
    expect((await reply(raw)).type).toBe(REPLY_TYPE.NONE);
    ask(raw, CMD.WRITE, 0, 0xffff_ffff_ffff_fe00n, CMD_FLAG.PAYLOAD_LEN);
    expect(await raw.end()).toHaveLength(0);
  });

  test("compact requests make no sense after them, and EXPORT_NAME neither", async () => {
    const path = await serve({ device: memoryDevice(4096) });
    const compact = await extended(path);
    compact.request(CMD.READ, 0, 512);
    compact.request(CMD.READ, 0, 512);
    expect(await compact.end()).toHaveLength(0);
    const raw = await greeted(path);
    await raw.option(OPT.EXTENDED_HEADERS);
    expect((await raw.option(OPT.EXTENDED_HEADERS, Buffer.alloc(1)))[0]!.type).toBe(REP.ERR_INVALID);
    expect((await raw.option(OPT.STRUCTURED_REPLY))[0]!.type).toBe(REP.ERR_EXT_HEADER_REQD);
    raw.write(OPTION.encode({ option: OPT.EXPORT_NAME, length: 1 }), Buffer.from("x"));
    expect(await raw.end()).toHaveLength(0);
  });

  test("our client uses them: a map, zeros and trim of terabytes take one request each", async () => {
    const calls: string[] = [];
    const path = await serve({ device: bigDevice(calls), fastZero: true });
    const client = await connectNbd(`nbd+unix:///x?socket=${path}`);
    open.push(client);
    await client.zero(0, 2 ** 40);
    await client.discard(0, 2 ** 40);
    expect(calls).toEqual([`zero 0 ${2 ** 40}`, `discard 0 ${2 ** 40}`]);
    const extents = await collect(client);
    expect(extents).toEqual([expect.objectContaining({ offset: 0, length: BIG, zero: true, data: false })]);
  });

  test("zeros that take their time are asked for in pieces, after the first refusal", async () => {
    const calls: string[] = [];
    const client = await connectNbd(`nbd+unix:///x?socket=${await serve({ device: bigDevice(calls) })}`);
    open.push(client);
    await client.zero(0, 160 << 20);
    await client.zero(1 << 30, 100 << 20);
    expect(calls.map((call) => Number(call.split(" ")[2]) >> 20)).toEqual([64, 64, 32, 64, 36]);
  });
});

describe("metadata contexts", () => {
  const dirtyBitmap: DirtyBitmap = {
    name: "since-monday",
    async *runs(_offset, length) {
      yield { length: 700, dirty: false };
      yield { length: 100, dirty: true };
      yield { length: length - 800, dirty: false };
    },
  };
  const names = (replies: readonly { type: number; data: Buffer }[]) =>
    replies.filter(({ type }) => type === REP.META_CONTEXT).map(({ data }) => data.subarray(4).toString());

  test("are listed by name, by namespace and all at once", async () => {
    const raw = await greeted(await serve({ device: memoryDevice(4096), dirtyBitmap }));
    await raw.option(OPT.STRUCTURED_REPLY);
    const query = async (option: number, ...queries: string[]) =>
      names(await raw.option(option, string("x"), be32(queries.length), ...queries.map(string)));
    const [all, bitmap] = [["base:allocation", "qemu:dirty-bitmap:since-monday"], ["qemu:dirty-bitmap:since-monday"]];
    expect(await query(OPT.LIST_META_CONTEXT)).toEqual(all);
    expect(await query(OPT.LIST_META_CONTEXT, "base:", "qemu:")).toEqual(all);
    expect(await query(OPT.LIST_META_CONTEXT, "qemu:dirty-bitmap:")).toEqual(bitmap);
    expect(await query(OPT.LIST_META_CONTEXT, "qemu:dirty-bitmap:other", "qemu:allocation-depth")).toEqual([]);
    expect(await query(OPT.SET_META_CONTEXT, ...bitmap, ...bitmap)).toEqual(bitmap);
    expect(await query(OPT.SET_META_CONTEXT, "qemu:dirty-bitmap:")).toEqual(bitmap);
    expect(await query(OPT.SET_META_CONTEXT, "base:")).toEqual([]);
    expect(await query(OPT.SET_META_CONTEXT)).toEqual([]);
  });

  test("come as one chunk each, and a block that is partly dirty is dirty", async () => {
    const device = sparseDevice(1 << 16);
    const raw = await greeted(await serve({ device, dirtyBitmap }));
    await raw.option(OPT.STRUCTURED_REPLY);
    await raw.option(OPT.SET_META_CONTEXT, string("x"), be32(2), string("base:allocation"), string("qemu:"));
    await raw.option(OPT.GO, string("x"), be16(0));
    raw.request(CMD.BLOCK_STATUS, 0, 1 << 16);
    const [first, second] = [await raw.chunk(), await raw.chunk()];
    expect([first.last, first.payload.readUInt32BE(), second.last, second.payload.readUInt32BE()]).toEqual([
      false,
      1,
      true,
      2,
    ]);
    const words = Array.from({ length: 6 }, (_, i) => second.payload.readUInt32BE(4 + 4 * i));
    expect(words).toEqual([512, 0, 512, DIRTY, (1 << 16) - 1024, 0]);
    raw.request(CMD.BLOCK_STATUS, 0, 1 << 16, { flags: CMD_FLAG.REQ_ONE });
    expect((await raw.chunk()).payload).toHaveLength(12);
    expect((await raw.chunk()).payload).toHaveLength(12);
  });

  test("names of bitmaps that no client could ask for are refused", async () => {
    const exports = new Map([
      ["x", { device: memoryDevice(512), dirtyBitmap: { ...dirtyBitmap, name: "x".repeat(4090) } }],
    ]);
    await expect(serveNbd({ path: join(tempDir(), "s"), exports })).rejects.toThrow(RangeError);
  });
});
