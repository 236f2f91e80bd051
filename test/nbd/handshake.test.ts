/** The fixed newstyle handshake, option by option, as a client of any kind may send it. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { CLIENT_FLAG, CMD, INFO, OPT, REP, TRANSMISSION_FLAG } from "#src/nbd/codes.js";
import {
  CLIENT_FLAGS,
  EXPORT_NAME_REPLY,
  GREETING,
  INFO_BLOCK_SIZE,
  INFO_EXPORT,
  OPTION,
  OPTION_REPLY,
} from "#src/nbd/layout.js";
import { type Export, type NbdServer, serveNbd } from "#src/nbd/server.js";
import { tempDir } from "../support/temp-dir.js";
import { be16, be32, RawClient, string } from "./raw-client.js";

const path = join(tempDir(), "two");
const single = join(tempDir(), "one");
const servers: NbdServer[] = [];

beforeAll(async () => {
  const rw = { device: memoryDevice(1 << 20, { blockSize: 512 }), description: "the first" };
  const ro = { device: memoryDevice(8192, { blockSize: 4096 }), readOnly: true };
  servers.push(
    await serveNbd({
      path,
      exports: new Map<string, Export>([
        ["rw", rw],
        ["ro", ro],
      ]),
    }),
  );
  servers.push(await serveNbd({ path: single, exports: new Map([["only", rw]]), limits: { handshakeTimeoutMs: 300 } }));
});
afterAll(() => Promise.all(servers.map((server) => server.close())));

const types = (replies: readonly { type: number }[]) => replies.map(({ type }) => type);
const infos = (replies: readonly { type: number; data: Buffer }[]) =>
  new Map(replies.filter(({ type }) => type === REP.INFO).map(({ data }) => [data.readUInt16BE(), data]));

describe("GO and INFO", () => {
  test("tell size, flags, block sizes, and what was asked for", async () => {
    const client = await RawClient.greeted(path);
    await client.option(OPT.STRUCTURED_REPLY);
    const replies = await client.option(OPT.INFO, string("rw"), be16(2), be16(INFO.NAME), be16(INFO.DESCRIPTION));
    const found = infos(replies);
    expect(INFO_EXPORT.decode(found.get(INFO.EXPORT)!).size).toBe(1 << 20);
    expect(INFO_BLOCK_SIZE.decode(found.get(INFO.BLOCK_SIZE)!)).toMatchObject({
      minimum: 512,
      preferred: 4096,
      maximumPayload: 32 << 20,
    });
    expect(found.get(INFO.NAME)!.subarray(2).toString()).toBe("rw");
    expect(found.get(INFO.DESCRIPTION)!.subarray(2).toString()).toBe("the first");
    expect(replies.at(-1)!.type).toBe(REP.ACK);
    // INFO leaves the handshake open, and what it did not ask for is not told.
    const plain = infos(await client.option(OPT.INFO, string("ro"), be16(0)));
    expect([...plain.keys()].sort()).toEqual([INFO.EXPORT, INFO.BLOCK_SIZE]);
    await client.close();
  });

  test("flags say what the export can do", async () => {
    const F = TRANSMISSION_FLAG;
    const client = await RawClient.greeted(path);
    const flagsOf = async (name: string) =>
      INFO_EXPORT.decode(infos(await client.option(OPT.INFO, string(name), be16(0))).get(INFO.EXPORT)!).flags;
    expect((await flagsOf("rw")) & F.SEND_DF).toBe(0);
    await client.option(OPT.STRUCTURED_REPLY);
    const writes = F.SEND_TRIM | F.SEND_WRITE_ZEROES | F.SEND_FAST_ZERO;
    const common = F.HAS_FLAGS | F.SEND_FLUSH | F.SEND_FUA | F.SEND_DF | F.CAN_MULTI_CONN | F.SEND_CACHE;
    expect(await flagsOf("rw")).toBe(common | writes);
    expect(await flagsOf("ro")).toBe(common | F.READ_ONLY);
    await client.close();
  });

  test.each([
    ["an unknown export", [string("nope"), be16(0)], REP.ERR_UNKNOWN],
    ["the default where there is none", [string(""), be16(0)], REP.ERR_UNKNOWN],
    ["a name beyond the data", [be32(5000), Buffer.from("rw")], REP.ERR_INVALID],
    ["a name of 2^32-1 bytes", [be32(0xffffffff)], REP.ERR_INVALID],
    ["more infos than are there", [string("rw"), be16(9)], REP.ERR_INVALID],
    ["bytes left over", [string("rw"), be16(0), be16(0)], REP.ERR_INVALID],
    ["nothing at all", [], REP.ERR_INVALID],
    ["data too long to keep", [Buffer.alloc(100_000)], REP.ERR_TOO_BIG],
  ])("%s", async (_what, data, error) => {
    const client = await RawClient.greeted(path);
    expect(types(await client.option(OPT.GO, ...data))).toEqual([error]);
    expect(types(await client.option(OPT.GO, string("rw"), be16(0))).at(-1)).toBe(REP.ACK); // and the handshake goes on
    await client.close();
  });

  test("the empty name is the only export", async () => {
    const client = await RawClient.greeted(single);
    const found = infos(await client.option(OPT.GO, string(""), be16(1), be16(INFO.NAME)));
    expect(found.get(INFO.NAME)!.subarray(2).toString()).toBe("only");
    await client.close();
  });
});

describe("EXPORT_NAME", () => {
  test.each([
    ["with", CLIENT_FLAG.FIXED_NEWSTYLE, 124],
    ["without", CLIENT_FLAG.FIXED_NEWSTYLE | CLIENT_FLAG.NO_ZEROES, 0],
  ])("is answered %s 124 zeros, and requests follow", async (_with, flags, zeros) => {
    const client = await RawClient.greeted(path, flags);
    client.write(OPTION.encode({ option: OPT.EXPORT_NAME, length: 2 }), Buffer.from("rw"));
    expect(EXPORT_NAME_REPLY.decode(await client.read(EXPORT_NAME_REPLY.size)).size).toBe(1 << 20);
    expect((await client.read(zeros)).every((byte) => byte === 0)).toBe(true);
    expect(await client.outcome(CMD.FLUSH, 0, 0)).toBe(0);
    await client.close();
  });

  test("of an unknown export ends the connection", async () => {
    const client = await RawClient.greeted(path);
    client.write(OPTION.encode({ option: OPT.EXPORT_NAME, length: 1 }), Buffer.from("x"));
    expect(await client.end()).toHaveLength(0);
  });

  test("requests that come in the same packet are not lost", async () => {
    const client = await RawClient.connect(path);
    await client.read(GREETING.size);
    client.write(
      CLIENT_FLAGS.encode({ flags: 3 }),
      OPTION.encode({ option: OPT.EXPORT_NAME, length: 2 }),
      Buffer.from("rw"),
    );
    client.request(CMD.READ, 0, 512);
    await client.read(EXPORT_NAME_REPLY.size);
    expect((await client.simpleReply()).error).toBe(0);
    expect(await client.read(512)).toEqual(Buffer.alloc(512));
    await client.close();
  });
});

describe("other options", () => {
  test("LIST names every export with its description", async () => {
    const client = await RawClient.greeted(path);
    const replies = await client.option(OPT.LIST);
    expect(types(replies)).toEqual([REP.SERVER, REP.SERVER, REP.ACK]);
    expect(replies[0]!.data.toString()).toBe("\0\0\0\x02rwthe first");
    expect(types(await client.option(OPT.LIST, Buffer.alloc(1)))).toEqual([REP.ERR_INVALID]);
    await client.close();
  });

  test("LIST is a matter of policy where exports are found by a function", async () => {
    const socket = join(tempDir(), "f");
    const device = memoryDevice(512);
    const server = await serveNbd({ path: socket, exports: (name) => (name === "x" ? { device } : undefined) });
    const client = await RawClient.greeted(socket);
    expect(types(await client.option(OPT.LIST))).toEqual([REP.ERR_POLICY]);
    expect(types(await client.option(OPT.INFO, string("x"), be16(0))).at(-1)).toBe(REP.ACK);
    expect(types(await client.option(OPT.INFO, string("y"), be16(0)))).toEqual([REP.ERR_UNKNOWN]);
    await client.close();
    await server.close();
  });

  test("an export that cannot be offered is an error for that client only, and its owner hears of it", async () => {
    const socket = join(tempDir(), "f");
    const errors: unknown[] = [];
    const exports = (name: string) => {
      if (name === "broken") throw new Error("the owner's own error");
      return { device: memoryDevice(512, { blockSize: name === "odd" ? 3 : 512 }) };
    };
    const server = await serveNbd({ path: socket, exports, onError: (error) => errors.push(error) });
    const client = await RawClient.greeted(socket);
    expect(types(await client.option(OPT.GO, string("broken"), be16(0)))).toEqual([REP.ERR_PLATFORM]);
    expect(types(await client.option(OPT.GO, string("odd"), be16(0))).at(-1)).toBe(REP.ERR_PLATFORM);
    expect(errors.map(String)).toEqual([
      "Error: the owner's own error",
      expect.stringContaining("blocks have 3 bytes"),
    ]);
    expect(types(await client.option(OPT.GO, string("good"), be16(0))).at(-1)).toBe(REP.ACK);
    await client.close();
    const old = await RawClient.greeted(socket);
    old.write(OPTION.encode({ option: OPT.EXPORT_NAME, length: 6 }), Buffer.from("broken"));
    expect(await old.end()).toHaveLength(0);
    await server.close();
    const long = new Map([["x".repeat(4097), exports("good")]]);
    await expect(serveNbd({ path: socket, exports: long })).rejects.toThrow(RangeError);
    await expect(serveNbd({ path: socket, exports: new Map([["odd", exports("odd")]]) })).rejects.toThrow(RangeError);
  });

  test("meta contexts need structured replies, and know base:allocation", async () => {
    const client = await RawClient.greeted(path);
    const query = (option: number, name: string, ...queries: string[]) =>
      client.option(option, string(name), be32(queries.length), ...queries.map(string));
    expect(types(await query(OPT.SET_META_CONTEXT, "rw", "base:allocation"))).toEqual([REP.ERR_INVALID]);
    await client.option(OPT.STRUCTURED_REPLY);
    const listed = await query(OPT.LIST_META_CONTEXT, "rw");
    expect(types(listed)).toEqual([REP.META_CONTEXT, REP.ACK]);
    expect(listed[0]!.data.subarray(4).toString()).toBe("base:allocation");
    expect(types(await query(OPT.LIST_META_CONTEXT, "rw", "base:"))).toHaveLength(2);
    expect(types(await query(OPT.LIST_META_CONTEXT, "rw", "qemu:dirty-bitmap:x"))).toEqual([REP.ACK]);
    expect(types(await query(OPT.SET_META_CONTEXT, "rw"))).toEqual([REP.ACK]);
    expect(types(await query(OPT.SET_META_CONTEXT, "nope", "base:allocation"))).toEqual([REP.ERR_UNKNOWN]);
    expect(types(await query(OPT.SET_META_CONTEXT, "rw", "x:y", "base:allocation"))).toEqual([
      REP.META_CONTEXT,
      REP.ACK,
    ]);
    expect(types(await client.option(OPT.SET_META_CONTEXT, string("rw"), be32(0xffffffff)))).toEqual([REP.ERR_INVALID]);
    await client.close();
  });

  test("unknown ones are unsupported, TLS included, and ABORT is acknowledged", async () => {
    const client = await RawClient.greeted(path);
    for (const option of [OPT.STARTTLS, OPT.PEEK_EXPORT, 0, 77, 0xffffffff])
      expect(types(await client.option(option))).toEqual([REP.ERR_UNSUP]);
    expect(types(await client.option(OPT.ABORT))).toEqual([REP.ACK]);
    await client.end();
  });
});

describe("a handshake that makes no sense ends the connection", () => {
  test.each<[string, Buffer]>([
    ["unknown client flags", Buffer.from([0, 0, 0, 4])],
    ["no option magic", Buffer.concat([be32(3), Buffer.alloc(16, 0x41)])],
    ["an option of 4 GiB", Buffer.concat([be32(3), OPTION.encode({ option: OPT.LIST, length: 0xffffffff })])],
    [
      "an export name of 70000 bytes",
      Buffer.concat([be32(3), OPTION.encode({ option: OPT.EXPORT_NAME, length: 70_000 })]),
    ],
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")],
  ])("%s", async (_what, bytes) => {
    const client = await RawClient.connect(path);
    client.write(bytes);
    expect(await client.end()).toHaveLength(GREETING.size);
  });

  test("options without end", async () => {
    const client = await RawClient.greeted(path);
    const options = Array.from({ length: 2000 }, () => OPTION.encode({ option: OPT.STRUCTURED_REPLY, length: 0 }));
    client.write(...options);
    expect((await client.end()).length).toBeLessThanOrEqual(1024 * OPTION_REPLY.size);
  });

  test("a byte now and then", async () => {
    const client = await RawClient.greeted(single);
    const drip = setInterval(() => client.write(Buffer.from("I")), 20); // of IHAVEOPT
    expect(await client.end()).toHaveLength(0);
    clearInterval(drip);
  });

  test("silence", async () => {
    const client = await RawClient.greeted(single);
    expect(await client.end()).toHaveLength(0);
  });
});
