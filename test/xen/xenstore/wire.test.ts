/** Framing, and the numbers of the protocol as a C compiler sees them (fixtures/xen-abi). */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GNTTAB_RESERVED_XENSTORE } from "#src/xen/platform/platform.js";
import { ABSOLUTE_PATH_MAX, RELATIVE_PATH_MAX } from "#src/xen/xenstore/path.js";
import { DOMID_LIMIT } from "#src/xen/xenstore/permissions.js";
import {
  CONNECTION_ERROR,
  SERVER_FEATURES,
  XENSTORE_DOMAIN_INTERFACE,
  XENSTORE_RING_SIZE,
} from "#src/xen/xenstore/ring.js";
import {
  encodeMessage,
  joinStrings,
  MESSAGE_TYPES,
  type Message,
  MessageParser,
  PAYLOAD_MAX,
  SOCKMSG,
  splitStrings,
} from "#src/xen/xenstore/wire.js";
import { parseErrno, XENSTORE_ERRNOS } from "#src/xen/xenstore/xenstore-error.js";

const abi = JSON.parse(readFileSync(new URL("../../../fixtures/xen-abi/xenstore.json", import.meta.url), "utf8"));

describe("the C headers", () => {
  test("header layout", () => {
    expect(SOCKMSG.size).toBe(abi.xsd_sockmsg.size);
    const { type, reqId, txId, len } = SOCKMSG.fields;
    for (const [field, name] of [
      [type, "type"],
      [reqId, "req_id"],
      [txId, "tx_id"],
      [len, "len"],
    ] as const)
      expect({ offset: field.offset, size: field.type.size }, name).toEqual(abi.xsd_sockmsg.fields[name]);
  });

  test("the shared page", () => {
    const { size, fields } = abi.xenstore_domain_interface;
    expect(XENSTORE_DOMAIN_INTERFACE.size).toBe(size);
    const ours = Object.entries(XENSTORE_DOMAIN_INTERFACE.fields).map(([name, field]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      { offset: field.offset, size: field.type.size },
    ]);
    expect(Object.fromEntries(ours)).toEqual(fields);
    expect(abi.ring).toMatchObject({
      XENSTORE_RING_SIZE,
      GNTTAB_RESERVED_XENSTORE,
      XENSTORE_SERVER_FEATURE_RECONNECTION: SERVER_FEATURES.reconnection,
      XENSTORE_SERVER_FEATURE_ERROR: SERVER_FEATURES.error,
      XENSTORE_ERROR_NONE: CONNECTION_ERROR.none,
      XENSTORE_ERROR_COMM: CONNECTION_ERROR.communication,
      XENSTORE_ERROR_RINGIDX: CONNECTION_ERROR.ringIndex,
      XENSTORE_ERROR_PROTO: CONNECTION_ERROR.protocol,
    });
  });

  test("message numbers", () => {
    const ours = Object.fromEntries(Object.entries(MESSAGE_TYPES).map(([name, type]) => [`XS_${name}`, type]));
    expect(ours).toEqual(abi.messages);
  });

  test("limits and error names", () => {
    expect([PAYLOAD_MAX, ABSOLUTE_PATH_MAX, RELATIVE_PATH_MAX, DOMID_LIMIT]).toEqual([
      abi.payloadMax,
      abi.absPathMax,
      abi.relPathMax,
      abi.domidFirstReserved,
    ]);
    expect(XENSTORE_ERRNOS).toEqual(abi.errors);
    expect(parseErrno("EQUOTA")).toBe("EINVAL");
  });
});

const message = fc.record({
  type: fc.nat(0xffffffff),
  reqId: fc.nat(0xffffffff),
  txId: fc.nat(0xffffffff),
  payload: fc.uint8Array({ maxLength: 64 }),
});

function drain(parser: MessageParser): Message[] {
  const found: Message[] = [];
  for (let one = parser.next(); one; one = parser.next()) found.push(one);
  return found;
}

test("a stream cut anywhere gives the messages that were put in", () => {
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
      (messages, cuts) => {
        const stream = Buffer.concat(messages.map(encodeMessage));
        const parser = new MessageParser();
        const found: Message[] = [];
        for (let offset = 0, i = 0; offset < stream.length; i++) {
          const end = offset + cuts[i % cuts.length]!;
          parser.push(stream.subarray(offset, end));
          found.push(...drain(parser));
          offset = end;
        }
        expect(found).toEqual(messages);
      },
    ),
  );
});

test("payloads are copies of what the stream's owner may reuse", () => {
  const parser = new MessageParser();
  const bytes = encodeMessage({ type: 2, reqId: 1, txId: 0, payload: joinStrings(["/a"]) });
  parser.push(bytes);
  bytes.fill(0xff);
  expect(splitStrings(parser.next()!.payload)).toEqual(["/a"]);
});

test.each([4097, 0x7fffffff, 0x80000000, 0xffffffff])(
  "a header that announces %i bytes is refused before they come",
  (len) => {
    const header = SOCKMSG.encode({ type: 2, reqId: 1, txId: 0, len });
    const parser = new MessageParser();
    parser.push(header.subarray(0, 15));
    expect(parser.next()).toBeUndefined();
    parser.push(header.subarray(15));
    expect(() => parser.next()).toThrow(
      expect.objectContaining({ code: "PROTOCOL", message: expect.stringContaining(`len is ${len}`) }),
    );
  },
);

test("4096 bytes of payload are a message, one more is not encoded", () => {
  const payload = new Uint8Array(4096).fill(7);
  const parser = new MessageParser();
  parser.push(encodeMessage({ type: 11, reqId: 1, txId: 0, payload }));
  expect(parser.next()!.payload).toEqual(payload);
  expect(() => encodeMessage({ type: 11, reqId: 1, txId: 0, payload: new Uint8Array(4097) })).toThrow(RangeError);
});

test("messages that nobody takes out are bounded", () => {
  const parser = new MessageParser();
  const chunk = new Uint8Array(1 << 18);
  for (let i = 0; i < 4; i++) parser.push(chunk);
  expect(() => parser.push(chunk)).toThrow(expect.objectContaining({ code: "PROTOCOL" }));
});

test("strings end with NUL, the last one too", () => {
  expect(splitStrings(Buffer.from("a\0b\0"))).toEqual(["a", "b"]);
  expect(splitStrings(Buffer.from("\0"))).toEqual([""]);
  expect(splitStrings(Buffer.from("a\0b"))).toBeUndefined();
  expect(splitStrings(Buffer.alloc(0))).toBeUndefined();
});
