/**
 * The tables against bytes of other projects, taken off the wire between qemu-io 7.2.22 as client
 * and nbdkit 1.32.5 (memory plugin, error filter) and qemu-nbd 7.2.22 (1 MiB sparse raw file) as servers.
 */
import { expect, test } from "vitest";
import {
  BASE_ALLOCATION,
  CMD,
  CMD_FLAG,
  INFO,
  NBD_ERRNO,
  OPT,
  REP,
  REPLY_TYPE,
  STATE,
  TRANSMISSION_FLAG,
} from "#src/nbd/codes.js";
import * as tables from "#src/nbd/layout.js";

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
const F = TRANSMISSION_FLAG;

test("greeting and client flags", () => {
  expect(tables.GREETING.decode(hex("4e42444d41474943 49484156454f5054 0003")).handshakeFlags).toBe(3);
  expect(tables.CLIENT_FLAGS.decode(hex("00000003"))).toEqual({ flags: 3 });
  expect(() => tables.GREETING.decode(hex("4e42444d41474944 49484156454f5054 0003"))).toThrow(
    "magic is 0x4e42444d41474944",
  );
});

test("options and their replies", () => {
  expect(tables.OPTION.decode(hex("49484156454f5054 00000008 00000000"))).toMatchObject({
    option: OPT.STRUCTURED_REPLY,
    length: 0,
  });
  expect(tables.OPTION.decode(hex("49484156454f5054 0000000a 0000001b"))).toMatchObject({
    option: OPT.SET_META_CONTEXT,
    length: 27,
  });
  expect(tables.OPTION.decode(hex("49484156454f5054 00000007 00000008"))).toMatchObject({ option: OPT.GO, length: 8 });
  const reply = hex("0003e889045565a9 0000000a 00000004 00000013 00000001 626173653a616c6c6f636174696f6e");
  expect(tables.OPTION_REPLY.decode(reply)).toMatchObject({
    option: OPT.SET_META_CONTEXT,
    type: REP.META_CONTEXT,
    length: 19,
  });
  expect(reply.subarray(tables.OPTION_REPLY.size + 4).toString()).toBe(BASE_ALLOCATION);
  expect(tables.OPTION_REPLY.decode(hex("0003e889045565a9 00000007 00000001 00000000"))).toMatchObject({
    type: REP.ACK,
  });
});

test("what an export is", () => {
  const { size, flags } = tables.INFO_EXPORT.decode(hex("0000 0000000000100000 0ced"));
  expect(size).toBe(1 << 20);
  expect(flags).toBe(
    F.HAS_FLAGS |
      F.SEND_FLUSH |
      F.SEND_FUA |
      F.SEND_TRIM |
      F.SEND_WRITE_ZEROES |
      F.SEND_DF |
      F.SEND_CACHE |
      F.SEND_FAST_ZERO,
  );
  expect(tables.INFO_EXPORT.decode(hex("0000 0000000000100000 0ded")).flags & F.CAN_MULTI_CONN).not.toBe(0);
  const sizes = { type: INFO.BLOCK_SIZE, minimum: 1, preferred: 4096, maximumPayload: 32 << 20 };
  expect(tables.INFO_BLOCK_SIZE.decode(hex("0003 00000001 00001000 02000000"))).toEqual(sizes);
});

test("requests", () => {
  const write = tables.REQUEST.decode(hex("25609513 0001 0001 000055e0d22c3ff0 0000000000001000 00000200"));
  expect(write).toMatchObject({ flags: CMD_FLAG.FUA, type: CMD.WRITE, offset: 4096n, length: 512 });
  expect(Buffer.from(write.cookie).toString("hex")).toBe("000055e0d22c3ff0");
  const status = tables.REQUEST.decode(hex("25609513 0008 0007 000055f5a8ee5ff0 0000000000000000 00100000"));
  expect(status).toMatchObject({ flags: CMD_FLAG.REQ_ONE, type: CMD.BLOCK_STATUS, offset: 0n, length: 1 << 20 });
  expect(tables.REQUEST.decode(hex("25609513 0000 0002 0000000000000000 0000000000000000 00000000")).type).toBe(
    CMD.DISC,
  );
});

/** Of no capture: no peer at hand speaks extended headers. The numbers are those of the document. */
test("extended headers", () => {
  const cookie = Buffer.from("0102030405060708", "hex");
  const request = { flags: CMD_FLAG.PAYLOAD_LEN, type: CMD.WRITE, cookie, offset: 4096n, length: 1n << 33n };
  const bytes = "21e41c71 0020 0001 0102030405060708 0000000000001000 0000000200000000";
  expect(Buffer.from(tables.EXTENDED_REQUEST.encode(request))).toEqual(hex(bytes));
  const reply = hex("6e8a278c 0001 0006 0102030405060708 0000000000001000 0000000000000018");
  expect(tables.EXTENDED_REPLY.decode(reply)).toMatchObject({
    type: REPLY_TYPE.BLOCK_STATUS_EXT,
    offset: 4096n,
    length: BigInt(tables.BLOCK_STATUS_EXT.size + tables.BLOCK_DESCRIPTOR_EXT.size),
  });
  expect(tables.BLOCK_STATUS_EXT.decode(hex("00000001 00000001"))).toEqual({ contextId: 1, count: 1 });
  const descriptor = tables.BLOCK_DESCRIPTOR_EXT.decode(hex("0000000200000000 0000000000000003"));
  expect(descriptor).toEqual({ length: 1n << 33n, status: 3n });
});

test("replies", () => {
  expect(tables.SIMPLE_REPLY.decode(hex("67446698 00000005 000055e0d22c3ff0")).error).toBe(NBD_ERRNO.EIO);
  const data = hex("668e33ef 0001 0001 000055e0d22c3ff0 00000208 0000000000000000");
  expect(tables.STRUCTURED_REPLY.decode(data)).toMatchObject({ flags: 1, type: REPLY_TYPE.OFFSET_DATA, length: 520 });
  expect(tables.OFFSET_DATA.decode(data, tables.STRUCTURED_REPLY.size)).toEqual({ offset: 0n });
  const hole = hex("668e33ef 0001 0002 00005556367f1ff0 0000000c 0000000000010000 00010000");
  expect(tables.STRUCTURED_REPLY.decode(hole)).toMatchObject({
    type: REPLY_TYPE.OFFSET_HOLE,
    length: tables.OFFSET_HOLE.size,
  });
  expect(tables.OFFSET_HOLE.decode(hole, tables.STRUCTURED_REPLY.size)).toEqual({ offset: 65536n, length: 65536 });
  const status = hex("668e33ef 0001 0005 000055f5a8ee5ff0 0000000c 00000001 00100000 00000003");
  expect(tables.STRUCTURED_REPLY.decode(status)).toMatchObject({ type: REPLY_TYPE.BLOCK_STATUS, length: 12 });
  expect(tables.BLOCK_STATUS.decode(status, 20)).toEqual({ contextId: 1 });
  expect(tables.BLOCK_DESCRIPTOR.decode(status, 24)).toEqual({ length: 1 << 20, status: STATE.HOLE | STATE.ZERO });
  const error = hex("668e33ef 0001 8001 000055f5a8ee5ff0 00000006 0000001c 0000");
  expect(tables.STRUCTURED_REPLY.decode(error)).toMatchObject({ type: REPLY_TYPE.ERROR, length: 6 });
  expect(tables.ERROR_CHUNK.decode(error, 20)).toEqual({ error: NBD_ERRNO.ENOSPC, messageLength: 0 });
});
