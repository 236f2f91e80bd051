/** One request of a client, and whether the protocol allows it for an export. */
import { CMD, CMD_FLAG, MAX_PAYLOAD, NBD_ERRNO } from "./codes.js";
import { isReadOnly } from "./exports.js";
import type { Session } from "./handshake.js";
import { REQUEST } from "./layout.js";

const { fields } = REQUEST;
const FLAGS_AT = fields.flags.offset;
const TYPE_AT = fields.type.offset;
const COOKIE_AT = fields.cookie.offset;
const OFFSET_AT = fields.offset.offset;
const LENGTH_AT = fields.length.offset;

export class Request {
  readonly flags: number;
  readonly type: number;
  /** The cookie's two halves: opaque, so never made one number. */
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Exact below 2^53; above, rounding leaves it beyond every device. */
  readonly offset: number;
  /** As the offset. */
  readonly length: number;

  /** Copies the fields of the request at byte `at`, which is a compact or an extended one; its magic was checked. */
  constructor(input: Buffer, at: number, extended: boolean) {
    this.flags = input.readUInt16BE(at + FLAGS_AT);
    this.type = input.readUInt16BE(at + TYPE_AT);
    this.cookieHigh = input.readUInt32BE(at + COOKIE_AT);
    this.cookieLow = input.readUInt32BE(at + COOKIE_AT + 4);
    this.offset = input.readUInt32BE(at + OFFSET_AT) * 2 ** 32 + input.readUInt32BE(at + OFFSET_AT + 4);
    const length = input.readUInt32BE(at + LENGTH_AT);
    this.length = extended ? length * 2 ** 32 + input.readUInt32BE(at + LENGTH_AT + 4) : length;
  }
}

/** What is read or written byte by byte is no longer than compact headers can ask for, however long the header. */
const MAX_BYTEWISE = 2 ** 32 - 1;

/** Flags that each command may carry. FUA is allowed everywhere, since clients are known to set it everywhere. */
const FLAGS: readonly number[] = Object.assign([] as number[], {
  [CMD.READ]: CMD_FLAG.FUA | CMD_FLAG.DF,
  [CMD.WRITE]: CMD_FLAG.FUA,
  [CMD.FLUSH]: CMD_FLAG.FUA,
  [CMD.TRIM]: CMD_FLAG.FUA,
  [CMD.CACHE]: CMD_FLAG.FUA,
  [CMD.WRITE_ZEROES]: CMD_FLAG.FUA | CMD_FLAG.NO_HOLE | CMD_FLAG.FAST_ZERO,
  [CMD.BLOCK_STATUS]: CMD_FLAG.FUA | CMD_FLAG.REQ_ONE,
});

/** Bytes that follow the request's header. An extended header says so by a flag, which careless clients forget on writes. */
export function payloadLength({ type, flags, length }: Request, extended: boolean): number {
  return type === CMD.WRITE || (extended && (flags & CMD_FLAG.PAYLOAD_LEN) !== 0) ? length : 0;
}

export function isWrite(type: number): boolean {
  return type === CMD.WRITE || type === CMD.TRIM || type === CMD.WRITE_ZEROES;
}

/** 0, or the error value that the document gives for what is wrong with the request (Error values; Request types). */
export function refusal(request: Request, session: Session): number {
  const { type, flags, offset, length } = request;
  const { device } = session.export;
  const allowed = FLAGS[type];
  const framing = session.extendedHeaders && type === CMD.WRITE ? CMD_FLAG.PAYLOAD_LEN : 0;
  if (allowed === undefined || (flags & ~(allowed | framing)) !== 0) return NBD_ERRNO.EINVAL;
  if (type === CMD.FLUSH) return 0;
  if (isWrite(type) && isReadOnly(session.export)) return NBD_ERRNO.EPERM;
  if (offset > device.size - length)
    return type === CMD.WRITE || type === CMD.WRITE_ZEROES ? NBD_ERRNO.ENOSPC : NBD_ERRNO.EINVAL;
  if (offset % device.blockSize !== 0 || length % device.blockSize !== 0) return NBD_ERRNO.EINVAL;
  switch (type) {
    case CMD.READ:
      if ((flags & CMD_FLAG.DF) !== 0 && !session.structuredReplies) return NBD_ERRNO.EINVAL;
      if (length <= MAX_PAYLOAD) return 0;
      return (flags & CMD_FLAG.DF) !== 0 ? NBD_ERRNO.EOVERFLOW : NBD_ERRNO.EINVAL;
    case CMD.WRITE:
      return length > MAX_PAYLOAD ? NBD_ERRNO.EINVAL : 0;
    case CMD.CACHE:
      return length > MAX_BYTEWISE ? NBD_ERRNO.EOVERFLOW : 0;
    case CMD.WRITE_ZEROES:
      if ((flags & CMD_FLAG.NO_HOLE) !== 0 && length > MAX_BYTEWISE) return NBD_ERRNO.EOVERFLOW;
      // Zeros that must not be a hole are written like any data, which is what FAST_ZERO asks not to do.
      if ((flags & CMD_FLAG.FAST_ZERO) === 0) return 0;
      return session.export.fastZero && (flags & CMD_FLAG.NO_HOLE) === 0 ? 0 : NBD_ERRNO.ENOTSUP;
    case CMD.BLOCK_STATUS:
      return session.contexts.length === 0 || length === 0 ? NBD_ERRNO.EINVAL : 0;
    default:
      return 0;
  }
}
