/** The client against servers of every manner: ours, old ones, and such as break the protocol. */

import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { BlockDevice, Extent } from "#src/block/device.js";
import { defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { DiskError } from "#src/errors.js";
import { connectNbd, type NbdClientOptions } from "#src/nbd/client.js";
import { CMD, NBD_ERRNO, OPT, REP, REPLY_TYPE, STATE, TRANSMISSION_FLAG } from "#src/nbd/codes.js";
import { GREETING, INFO_BLOCK_SIZE, INFO_EXPORT } from "#src/nbd/layout.js";
import { serveNbd } from "#src/nbd/server.js";
import { tempDir } from "../support/temp-dir.js";
import { collect, gatedDevice, sparseDevice } from "./devices.js";
import {
  type AskedRequest,
  chunk,
  dataAt,
  errorOf,
  holeAt,
  optionReply,
  type Script,
  scriptedServer,
  simpleReply,
  statusOf,
} from "./scripted-server.js";

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

async function onServer(device: BlockDevice, options?: NbdClientOptions) {
  const exports = new Map([["disk", { device, fastZero: true }]]);
  const server = await serveNbd({ path: join(tempDir(), "s"), exports, limits: { closeTimeoutMs: 100 } });
  open.push(server);
  const client = await connectNbd(server.uri("disk"), options);
  open.push(client);
  return { server, client };
}

async function onScript(script: Script, options?: NbdClientOptions) {
  const server = await scriptedServer(script);
  open.push(server);
  const client = await connectNbd(server.uri, options);
  open.push(client);
  return { server, client };
}

describe("on our server", () => {
  test("large ranges are cut into pieces and come back whole, over one connection and over four", async () => {
    for (const connections of [1, 4]) {
      const device = sparseDevice(48 << 20);
      const { client, server } = await onServer(device, { connections });
      expect(client).toMatchObject({ size: 48 << 20, blockSize: 512, writable: true });
      expect(server.connectionCount("disk")).toBe(connections);
      const data = Buffer.alloc((37 << 20) + 1536, "pattern of no power of two");
      await client.write(512, data);
      const back = Buffer.alloc(data.length);
      await client.read(512, back);
      expect(back.equals(data)).toBe(true);
      await client.flush();
    }
  });

  test("extents are the device's, joined, and clipped to what was asked", async () => {
    const device = sparseDevice(1 << 20);
    await device.write(8192, Buffer.alloc(8192, 1));
    const { client } = await onServer(device);
    const shape = (extents: Extent[]) => extents.map(({ offset, length, data, zero }) => [offset, length, data, zero]);
    expect(shape(await collect(client))).toEqual([
      [0, 8192, false, true],
      [8192, 8192, true, false],
      [16384, (1 << 20) - 16384, false, true],
    ]);
    expect(shape(await collect(client, 4096, 8192))).toEqual([
      [4096, 4096, false, true],
      [8192, 4096, true, false],
    ]);
  });

  test("a map of more runs than fit one reply is asked for until its end", async () => {
    const device = sparseDevice(64 << 20);
    for (let offset = 0; offset < device.size; offset += 8192) await device.write(offset, Buffer.alloc(512, 1));
    const { client } = await onServer(device);
    const extents = await collect(client);
    expect(extents).toHaveLength(device.size / 4096);
    expect(
      extents.every(({ offset, length, data }, i) => offset === i * 4096 && length === 4096 && data === (i % 2 === 0)),
    ).toBe(true);
  });

  test("zero, discard and flush reach the device", async () => {
    const calls: string[] = [];
    const note = (name: string) => async (offset?: number, length?: number) =>
      void calls.push(`${name} ${offset ?? ""} ${length ?? ""}`.trim());
    const device = defineDevice({
      label: "spy",
      size: 2 ** 40,
      read: async () => {},
      write: async () => {},
      zero: note("zero"),
      discard: note("discard"),
      flush: note("flush"),
    });
    const { client } = await onServer(device);
    await client.discard(0, 3 * 2 ** 30);
    await client.zero(4096, 100 << 20);
    await client.flush();
    expect(calls).toEqual([`discard 0 ${3 * 2 ** 30}`, `zero 4096 ${100 << 20}`, "flush"]);
  });

  test("errors keep their kind on the way", async () => {
    for (const [code, expected] of [
      ["NO_SPACE", "NO_SPACE"],
      ["IO", "IO"],
      ["UNSUPPORTED", "UNSUPPORTED"],
      ["CORRUPT", "IO"],
    ] as const) {
      const fail = async () => {
        throw new DiskError(code, "Cannot");
      };
      const { client } = await onServer(
        defineDevice({ label: "bad", size: 8 << 20, read: fail, write: fail, flush: fail, zero: fail }),
      );
      const ops = [
        () => client.read(0, Buffer.alloc(512)),
        () => client.read(0, Buffer.alloc(4 << 20)),
        () => client.write(512, Buffer.alloc(512)),
        () => client.zero(0, 512),
        () => client.flush(),
      ];
      for (const op of ops)
        await expect(op()).rejects.toMatchObject({ code: expected, message: expect.stringContaining(client.label) });
    }
  });

  test("read-only by the server's word or by ours", async () => {
    const { client: ours } = await onServer(memoryDevice(512), { readOnly: true });
    const { client: theirs } = await onServer(memoryDevice(512, { writable: false }));
    for (const client of [ours, theirs]) {
      expect(client.writable).toBe(false);
      await expect(client.write(0, Buffer.alloc(512))).rejects.toMatchObject({ code: "READ_ONLY" });
    }
  });

  test("a server that goes away fails what waits and what comes after, by name", async () => {
    const gate = gatedDevice(1 << 20);
    const { client, server } = await onServer(gate.device, { reconnect: { firstDelayMs: 1 } });
    const waiting = [client.read(0, Buffer.alloc(512)), client.write(0, Buffer.alloc(512))].map((operation) =>
      expect(operation).rejects.toMatchObject({ code: "IO", message: expect.stringContaining(client.label) }),
    );
    await gate.waiting(2);
    const closing = server.close(); // waits for the gate in vain, then cuts the client off
    await Promise.all(waiting);
    gate.open();
    await closing;
    await expect(client.read(0, Buffer.alloc(512))).rejects.toMatchObject({ code: "IO" });
    await client.close();
  });

  test("close is idempotent, and says DISC", async () => {
    const { client, server } = await onScript({ modern: false });
    await Promise.all([client.close(), client.close()]);
    await client.close();
    expect(server.commands).toEqual([CMD.DISC]);
    await expect(client.read(0, Buffer.alloc(512))).rejects.toThrow(TypeError);
  });
});

describe("opening", () => {
  test.each<[string, Script, string, string]>([
    [
      "an unknown export",
      {
        option: (option) =>
          option === OPT.GO ? optionReply(option, REP.ERR_UNKNOWN, Buffer.from("no such thing")) : undefined,
      },
      "NOT_FOUND",
      "no such thing",
    ],
    [
      "an export behind TLS",
      { option: (option) => (option === OPT.GO ? optionReply(option, REP.ERR_TLS_REQD) : undefined) },
      "UNSUPPORTED",
      "ERR_TLS_REQD",
    ],
    [
      "a policy",
      { option: (option) => (option === OPT.GO ? optionReply(option, REP.ERR_POLICY) : undefined) },
      "DENIED",
      "ERR_POLICY",
    ],
    [
      "an oldstyle server",
      { greeting: Buffer.from("4e42444d414749430000420281861253".padEnd(304, "0"), "hex") },
      "UNSUPPORTED",
      "oldstyle",
    ],
    ["another service", { greeting: Buffer.from("SSH-2.0-OpenSSH_9.2 and so on") }, "PROTOCOL", "magic is"],
    [
      "a reply to another option",
      { option: () => optionReply(OPT.LIST, REP.ACK) },
      "PROTOCOL",
      "answers option LIST, asked was EXTENDED_HEADERS",
    ],
    [
      "a reply of 4 GiB",
      { option: (option) => Buffer.from(optionReply(option, REP.ACK).fill(0xff, 16)) },
      "PROTOCOL",
      "4294967295 bytes",
    ],
    [
      "replies without end",
      {
        option: (option) =>
          option === OPT.GO
            ? Buffer.concat(Array(100).fill(optionReply(option, REP.INFO, Buffer.from([9, 9]))))
            : undefined,
      },
      "PROTOCOL",
      "more than 64 replies",
    ],
    [
      "GO without an export",
      { option: (option) => (option === OPT.GO ? optionReply(option, REP.ACK) : undefined) },
      "PROTOCOL",
      "without NBD_INFO_EXPORT",
    ],
    [
      "a size beyond 2^53",
      {
        option: (option) =>
          option === OPT.GO
            ? optionReply(option, REP.INFO, INFO_EXPORT.encode({ size: 0, flags: 1 }).fill(0xff, 2, 10))
            : undefined,
      },
      "PROTOCOL",
      "allowed 0..2^53-1",
    ],
    [
      "a cut info",
      { option: (option) => (option === OPT.GO ? optionReply(option, REP.INFO, Buffer.from([0, 0, 1])) : undefined) },
      "PROTOCOL",
      "3 bytes are left, it needs 12",
    ],
    [
      "blocks of 3 bytes",
      {
        option: (option) =>
          option === OPT.GO
            ? optionReply(option, REP.INFO, INFO_BLOCK_SIZE.encode({ minimum: 3, preferred: 3, maximumPayload: 99 }))
            : undefined,
      },
      "PROTOCOL",
      "blocks of 3 bytes",
    ],
    [
      "a payload limit below the block",
      {
        option: (option) =>
          option === OPT.GO
            ? optionReply(
                option,
                REP.INFO,
                INFO_BLOCK_SIZE.encode({ minimum: 4096, preferred: 4096, maximumPayload: 512 }),
              )
            : undefined,
      },
      "PROTOCOL",
      "at most 512 bytes in blocks of 4096",
    ],
    ["no transmission flags", { flags: 0 }, "PROTOCOL", "without HAS_FLAGS"],
  ])("%s", async (_what, script, code, text) => {
    const server = await scriptedServer(script);
    open.push(server);
    const error = await connectNbd(server.uri).then(
      () => undefined,
      (error) => error,
    );
    expect(error).toBeInstanceOf(DiskError);
    expect(error).toMatchObject({ code, message: expect.stringContaining(text) });
    expect(error.message).toContain(server.uri);
  });

  test("nobody there", async () => {
    const missing = join(tempDir(), "none");
    await expect(connectNbd(`nbd+unix:///?socket=${missing}`)).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining(missing),
    });
  });

  test("a server that accepts and is silent", async () => {
    const path = join(tempDir(), "s");
    const server = createServer((socket) => open.push({ close: async () => void socket.destroy() }));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    open.push({ close: () => new Promise((resolve) => void server.close(() => resolve())) });
    await expect(connectNbd(`nbd+unix:///?socket=${path}`, { timeoutMs: 50 })).rejects.toMatchObject({
      code: "IO",
      message: expect.stringContaining("handshake within 50 ms"),
    });
  });

  test("a server without GO, structured replies or zero flags is used by EXPORT_NAME", async () => {
    const contents = Buffer.alloc(1 << 20, "old");
    const request = (asked: AskedRequest) =>
      asked.type === CMD.READ
        ? simpleReply(asked, 0, contents.subarray(asked.offset, asked.offset + asked.length))
        : simpleReply(asked);
    for (const handshakeFlags of [2, 3]) {
      const { client, server } = await onScript({ modern: false, handshakeFlags, request });
      expect(client).toMatchObject({ size: 1 << 20, blockSize: 512, writable: true });
      const back = Buffer.alloc(8192);
      await client.read(4096, back);
      expect(back).toEqual(contents.subarray(4096, 12288));
      // No map, no zeros, no trim, no flush: all data, written zeros, and nothing.
      expect(await collect(client)).toMatchObject([{ offset: 0, length: 1 << 20, data: true, zero: false }]);
      await client.zero(0, 512);
      await client.discard(0, 512);
      await client.flush();
      expect(server.commands).toEqual([CMD.READ, CMD.WRITE]);
    }
  });

  test("EXPORT_NAME answered by silence and the end is an unknown export", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.write(GREETING.encode({ handshakeFlags: 2 }));
      socket.once("data", () => socket.end());
    });
    const path = join(tempDir(), "s");
    await new Promise<void>((resolve) => server.listen(path, resolve));
    open.push({ close: () => new Promise((resolve) => void server.close(() => resolve())) });
    await expect(connectNbd(`nbd+unix:///x?socket=${path}`)).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("block sizes: the size is cut to whole blocks", async () => {
    const { client } = await onScript({ size: 10_000, minimum: 4096 });
    expect(client).toMatchObject({ size: 8192, blockSize: 4096 });
    await expect(client.read(512, Buffer.alloc(4096))).rejects.toThrow(RangeError);
  });

  test("more connections are made only where the server allows them", async () => {
    const { server, client } = await onScript({}, { connections: 3 });
    await client.close();
    expect(server.commands).toEqual([CMD.DISC]);
  });

  test("silence with a request in flight is a lost server, when a timeout was asked for", async () => {
    const { client } = await onScript({}, { timeoutMs: 60 });
    await expect(client.read(0, Buffer.alloc(512))).rejects.toMatchObject({
      code: "IO",
      message: expect.stringContaining("does not answer"),
    });
  });
});

describe("replies", () => {
  const F = TRANSMISSION_FLAG;
  const T = REPLY_TYPE;
  const read = (client: BlockDevice) => client.read(0, Buffer.alloc(1024));

  test("structured chunks in any order make one read", async () => {
    const request = (asked: AskedRequest) =>
      Buffer.concat([
        chunk(asked, T.OFFSET_HOLE, false, holeAt(256, 256)),
        chunk(asked, T.OFFSET_DATA, false, dataAt(512, Buffer.alloc(512, 2))),
        chunk(asked, T.OFFSET_DATA, false, dataAt(0, Buffer.alloc(256, 1))),
        chunk(asked, T.NONE, true),
      ]);
    const { client } = await onScript({ request });
    const into = Buffer.alloc(1024, 9);
    await client.read(0, into);
    expect(into).toEqual(Buffer.concat([Buffer.alloc(256, 1), Buffer.alloc(256), Buffer.alloc(512, 2)]));
  });

  test("the wire may cut them anywhere", async () => {
    const request = (asked: AskedRequest) =>
      Buffer.concat([
        chunk(asked, T.OFFSET_DATA, false, dataAt(0, Buffer.alloc(512, 1))),
        chunk(asked, T.OFFSET_HOLE, true, holeAt(512, 512)),
      ]);
    const { ReplyParser, PendingRequest } = await import("#src/nbd/reply-parser.js");
    const stream = request({ type: CMD.READ, offset: 0, length: 1024, cookie: Buffer.from([0, 0, 0, 0, 0, 0, 0, 1]) });
    for (let size = 1; size <= stream.length; size++) {
      const pending = new PendingRequest(CMD.READ, 0, 1024, Buffer.alloc(1024, 9));
      let done = 0;
      const parser = new ReplyParser(
        { find: () => pending, done: () => void done++ },
        { structuredReplies: true, extendedHeaders: false, allocationContext: 7 },
        "x",
      );
      for (let at = 0; at < stream.length; at += size) parser.receive(Buffer.from(stream.subarray(at, at + size)));
      expect(done).toBe(1);
      expect(pending.into).toEqual(Buffer.concat([Buffer.alloc(512, 1), Buffer.alloc(512)]));
    }
  });

  test.each<[string, (asked: AskedRequest) => Uint8Array, string]>([
    ["no known magic", () => Buffer.alloc(64, 0x41), "magic 0x41414141"],
    [
      "an unknown cookie",
      (asked) => chunk({ ...asked, cookie: Buffer.alloc(8, 3) }, T.NONE, true),
      "that was not sent",
    ],
    ["a simple reply to a read", (asked) => simpleReply(asked, 0, Buffer.alloc(1024)), "simple reply"],
    ["success without data", (asked) => chunk(asked, T.NONE, true), "sent 0 bytes for a read of 1024"],
    [
      "missing data",
      (asked) => chunk(asked, T.OFFSET_DATA, true, dataAt(0, Buffer.alloc(512))),
      "sent 512 bytes for a read of 1024",
    ],
    [
      "too much data",
      (asked) => chunk(asked, T.OFFSET_DATA, true, dataAt(0, Buffer.alloc(2048))),
      "bytes 0..2048, asked were 0..1024",
    ],
    [
      "data before the request",
      (asked) => chunk(asked, T.OFFSET_HOLE, true, Buffer.alloc(12, 0xff)),
      "OFFSET_HOLE of bytes",
    ],
    ["an empty hole", (asked) => chunk(asked, T.OFFSET_HOLE, true, holeAt(0, 0)), "OFFSET_HOLE of bytes 0..0"],
    [
      "no data in a data chunk",
      (asked) => chunk(asked, T.OFFSET_DATA, true, dataAt(0, Buffer.alloc(0))),
      "OFFSET_DATA of 8 bytes",
    ],
    ["half an offset", (asked) => chunk(asked, T.OFFSET_DATA, true, Buffer.alloc(4)), "OFFSET_DATA of 4 bytes"],
    [
      "overlapping chunks",
      (asked) =>
        Buffer.concat([
          chunk(asked, T.OFFSET_HOLE, false, holeAt(0, 600)),
          chunk(asked, T.OFFSET_HOLE, true, holeAt(512, 512)),
        ]),
      "overlapping",
    ],
    [
      "a hole of the wrong size",
      (asked) => chunk(asked, T.OFFSET_HOLE, true, Buffer.alloc(13)),
      "OFFSET_HOLE of 13 bytes",
    ],
    ["NONE with payload", (asked) => chunk(asked, T.NONE, true, Buffer.alloc(1)), "NONE of 1 bytes"],
    ["NONE before the end", (asked) => chunk(asked, T.NONE, false), "not the last"],
    ["an unknown type", (asked) => chunk(asked, 77, true), "unknown type 77"],
    ["a huge chunk", (asked) => chunk(asked, 77, true, Buffer.alloc(100_000)), "of 100000 bytes"],
    [
      "block status for a read",
      (asked) => chunk(asked, T.BLOCK_STATUS, true, statusOf(7, [512, 0])),
      "READ with a chunk BLOCK_STATUS",
    ],
    ["an error without a value", (asked) => chunk(asked, T.ERROR, true, errorOf(0)), "without an error value"],
    [
      "a message longer than its chunk",
      (asked) => chunk(asked, T.ERROR, true, errorOf(5).fill(0xff, 4)),
      "longer than the chunk",
    ],
  ])("%s breaks the connection", async (_what, request, text) => {
    const { client } = await onScript({ request });
    await expect(read(client)).rejects.toMatchObject({ code: "PROTOCOL", message: expect.stringContaining(text) });
    await expect(read(client)).rejects.toMatchObject({ code: "PROTOCOL" });
  });

  test.each<[string, (asked: AskedRequest) => Uint8Array, string]>([
    ["a structured reply that nobody negotiated", (asked) => chunk(asked, T.NONE, true), "magic 0x668e33ef"],
    ["a second answer", (asked) => Buffer.concat([simpleReply(asked, NBD_ERRNO.EIO), simpleReply(asked)]), ""],
  ])("from an old server: %s", async (_what, request, text) => {
    const { client } = await onScript({ modern: false, request });
    await expect(read(client)).rejects.toMatchObject({ message: expect.stringContaining(text) });
    await expect(read(client)).rejects.toMatchObject({ code: "PROTOCOL" });
  });

  test("errors in chunks, known or not, with the server's words", async () => {
    const replies = [
      (asked: AskedRequest) => chunk(asked, T.ERROR, true, errorOf(NBD_ERRNO.ENOSPC, "pool full")),
      (asked: AskedRequest) =>
        Buffer.concat([
          chunk(asked, T.OFFSET_DATA, false, dataAt(0, Buffer.alloc(1024))),
          chunk(asked, T.ERROR_OFFSET, false, errorOf(NBD_ERRNO.EIO, "sector 1", Buffer.alloc(8))),
          chunk(asked, T.NONE, true),
        ]),
      (asked: AskedRequest) =>
        chunk(asked, 0x8000 + 99, true, errorOf(NBD_ERRNO.EPERM, "of a new kind", Buffer.alloc(3))),
      (asked: AskedRequest) => chunk(asked, T.OFFSET_DATA, true, dataAt(0, Buffer.alloc(1024, 1))),
    ];
    const { client } = await onScript({ request: (asked) => replies.shift()!(asked) });
    await expect(read(client)).rejects.toMatchObject({
      code: "NO_SPACE",
      message: expect.stringContaining('"pool full" (bytes 0..1024)'),
    });
    await expect(read(client)).rejects.toMatchObject({ code: "IO", message: expect.stringContaining("sector 1") });
    await expect(read(client)).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("of a new kind"),
    });
    await read(client);
  });

  const extents = (request: (asked: AskedRequest) => Uint8Array, script: Script = {}) =>
    onScript({ size: 8192, flags: F.HAS_FLAGS, request, ...script }).then(({ client }) => collect(client));

  test("block status: less than asked, more than asked, boundaries inside of blocks", async () => {
    const shape = (found: Extent[]) => found.map(({ offset, length, data, zero }) => [offset, length, data, zero]);
    const hole = STATE.HOLE | STATE.ZERO;
    expect(
      shape(
        await extents(
          (asked) => chunk(asked, T.BLOCK_STATUS, true, statusOf(7, [1000, asked.offset < 2000 ? hole : 0])),
          { minimum: 1 },
        ),
      ),
    ).toEqual([
      [0, 2000, false, true],
      [2000, 6192, true, false],
    ]);
    expect(
      shape(
        await extents((asked) =>
          chunk(asked, T.BLOCK_STATUS, true, statusOf(7, [4096, hole], [0xffff_ffff, STATE.ZERO])),
        ),
      ),
    ).toEqual([
      [0, 4096, false, true],
      [4096, 4096, true, true],
    ]);
    // 512-byte blocks: the block that a hole shares with data is data, and a crumb of a map still makes progress.
    expect(
      shape(
        await extents((asked) => chunk(asked, T.BLOCK_STATUS, true, statusOf(7, [1000, hole], [7192, 0])), {
          minimum: 512,
        }),
      ),
    ).toEqual([
      [0, 512, false, true],
      [512, 7680, true, false],
    ]);
    expect(
      shape(await extents((asked) => chunk(asked, T.BLOCK_STATUS, true, statusOf(7, [100, hole])), { minimum: 512 })),
    ).toEqual([[0, 8192, true, false]]);
    // A hole of unknown contents has to be read.
    expect(
      shape(await extents((asked) => chunk(asked, T.BLOCK_STATUS, true, statusOf(7, [8192, STATE.HOLE])))),
    ).toEqual([[0, 8192, true, false]]);
  });

  test.each<[string, (asked: AskedRequest) => Uint8Array, string]>([
    ["of another context", (asked) => chunk(asked, T.BLOCK_STATUS, true, statusOf(8, [8192, 0])), "not selected"],
    ["of nothing", (asked) => chunk(asked, T.BLOCK_STATUS, true, statusOf(7)), "BLOCK_STATUS of 4 bytes"],
    ["of an empty run", (asked) => chunk(asked, T.BLOCK_STATUS, true, statusOf(7, [0, 0])), "of 0 bytes"],
    ["of half a run", (asked) => chunk(asked, T.BLOCK_STATUS, true, Buffer.alloc(9)), "BLOCK_STATUS of 9 bytes"],
    [
      "twice",
      (asked) =>
        Buffer.concat([
          chunk(asked, T.BLOCK_STATUS, false, statusOf(7, [512, 0])),
          chunk(asked, T.BLOCK_STATUS, true, statusOf(7, [512, 0])),
        ]),
      "BLOCK_STATUS of 12 bytes",
    ],
    ["left out", (asked) => chunk(asked, T.NONE, true), "no block status"],
    [
      "as data",
      (asked) => chunk(asked, T.OFFSET_DATA, true, dataAt(0, Buffer.alloc(512))),
      "BLOCK_STATUS with a chunk OFFSET_DATA",
    ],
    ["as a simple reply", (asked) => simpleReply(asked), "BLOCK_STATUS with a simple reply"],
  ])("block status %s breaks the connection", async (_what, request, text) => {
    await expect(extents(request)).rejects.toMatchObject({ code: "PROTOCOL", message: expect.stringContaining(text) });
  });
});
