/**
 * Xenstore's wire format (xs_wire.h): a 16-byte header, then at most 4096 bytes of payload, little-endian, over any byte stream.
 * Strings inside a payload end with NUL; a value is raw bytes without one.
 */
import { u32 } from "../../bytes/field-types.js";
import { at, layout } from "../../bytes/layout.js";
import { DiskError } from "../../errors.js";

export const SOCKMSG = layout(
  "xsd_sockmsg",
  { endian: "le", size: 16, spec: "xen/io/xs_wire.h, Xen 4.17" },
  {
    type: at(0, u32, "one of MESSAGE_TYPES"),
    reqId: at(4, u32, "the client's number of a request, echoed in its reply; 0 in watch events"),
    txId: at(8, u32, "transaction, 0 for none"),
    len: at(12, u32, "bytes of payload that follow, at most 4096"),
  },
);

export const PAYLOAD_MAX = 4096; // bytes

/** XS_* of xs_wire.h. */
export const MESSAGE_TYPES = {
  CONTROL: 0,
  DIRECTORY: 1,
  READ: 2,
  GET_PERMS: 3,
  WATCH: 4,
  UNWATCH: 5,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  INTRODUCE: 8,
  RELEASE: 9,
  GET_DOMAIN_PATH: 10,
  WRITE: 11,
  MKDIR: 12,
  RM: 13,
  SET_PERMS: 14,
  WATCH_EVENT: 15,
  ERROR: 16,
  IS_DOMAIN_INTRODUCED: 17,
  RESUME: 18,
  SET_TARGET: 19,
  RESET_WATCHES: 21,
  DIRECTORY_PART: 22,
} as const;

export type MessageName = keyof typeof MESSAGE_TYPES;

export interface Message {
  /** As found; may be a number that is no message type. */
  readonly type: number;
  readonly reqId: number;
  readonly txId: number;
  /** The receiver's own copy. */
  readonly payload: Uint8Array;
}

/** Header and payload in one buffer of exactly that size. Throws `RangeError` above 4096 bytes of payload. */
export function encodeMessage(message: Message): Uint8Array {
  const { payload } = message;
  if (payload.length > PAYLOAD_MAX)
    throw new RangeError(`a payload of ${payload.length} bytes is above ${PAYLOAD_MAX}`);
  const bytes = new Uint8Array(SOCKMSG.size + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(SOCKMSG.fields.type.offset, message.type, true);
  view.setUint32(SOCKMSG.fields.reqId.offset, message.reqId, true);
  view.setUint32(SOCKMSG.fields.txId.offset, message.txId, true);
  view.setUint32(SOCKMSG.fields.len.offset, payload.length, true);
  bytes.set(payload, SOCKMSG.size);
  return bytes;
}

// Only a peer that ignores back-pressure gets near it: one read of a socket is 64 KiB.
const BACKLOG_MAX = 1 << 20;

/** Cuts a byte stream into messages, however its chunks fall. */
export class MessageParser {
  #backlog: Uint8Array = new Uint8Array(0);

  /** Takes in the next bytes of the stream; they are not kept. Throws `PROTOCOL` above 1 MiB of messages nobody took out. */
  push(bytes: Uint8Array): void {
    const length = this.#backlog.length + bytes.length;
    if (length > BACKLOG_MAX) {
      throw new DiskError(
        "PROTOCOL",
        `Cannot read xenstore messages: ${length} bytes are waiting, allowed ${BACKLOG_MAX}`,
      );
    }
    const joined = new Uint8Array(length);
    joined.set(this.#backlog);
    joined.set(bytes, this.#backlog.length);
    this.#backlog = joined;
  }

  /** The next whole message, undefined until its last byte has come. Throws `PROTOCOL` as soon as a header announces more than 4096 bytes. */
  next(): Message | undefined {
    const backlog = this.#backlog;
    if (backlog.length < SOCKMSG.size) return undefined;
    const view = new DataView(backlog.buffer, backlog.byteOffset);
    const len = view.getUint32(SOCKMSG.fields.len.offset, true);
    if (len > PAYLOAD_MAX) {
      const text = `Cannot read xenstore message: len is ${len}, allowed 0..${PAYLOAD_MAX} (byte ${SOCKMSG.fields.len.offset})`;
      throw new DiskError("PROTOCOL", text, { details: { len } });
    }
    const end = SOCKMSG.size + len;
    if (backlog.length < end) return undefined;
    this.#backlog = backlog.subarray(end);
    return {
      type: view.getUint32(SOCKMSG.fields.type.offset, true),
      reqId: view.getUint32(SOCKMSG.fields.reqId.offset, true),
      txId: view.getUint32(SOCKMSG.fields.txId.offset, true),
      payload: backlog.slice(SOCKMSG.size, end),
    };
  }

  /** Forgets everything that is waiting. */
  reset(): void {
    this.#backlog = new Uint8Array(0);
  }
}

/** Text byte for byte (Latin-1): the server never interprets what is outside of ASCII. */
export function bytesToText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** The inverse of `bytesToText`. */
export function textToBytes(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

/** The strings of a payload in which every string ends with NUL; undefined when the last does not. */
export function splitStrings(payload: Uint8Array): string[] | undefined {
  if (payload.length === 0 || payload[payload.length - 1] !== 0) return undefined;
  return bytesToText(payload.subarray(0, -1)).split("\0");
}

export function joinStrings(strings: readonly string[]): Uint8Array {
  return textToBytes(strings.map((text) => `${text}\0`).join(""));
}
