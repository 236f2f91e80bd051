/** Numbers of the NBD protocol under their names in its document (doc/proto.md of NetworkBlockDevice/nbd), without the NBD_ prefix of each group. */

/** First eight bytes from every server. */
export const NBDMAGIC = 0x4e42444d41474943n;
/** Second magic of the newstyle handshake, and the magic of every option request. */
export const IHAVEOPT = 0x49484156454f5054n;
/** Second magic of the oldstyle handshake, which is recognised to be refused. */
export const CLISERV_MAGIC = 0x00420281861253n;
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c;

/** IANA's port for NBD. */
export const DEFAULT_PORT = 10809;
/** No name or message is longer than this ("String" in the document). */
export const MAX_STRING = 4096;
/** The payload that every peer can be expected to take: 2^25 bytes. */
export const MAX_PAYLOAD = 32 << 20;

/** Handshake flags, from the server. */
export const HANDSHAKE_FLAG = { FIXED_NEWSTYLE: 1 << 0, NO_ZEROES: 1 << 1 } as const;
/** Client flags. */
export const CLIENT_FLAG = { FIXED_NEWSTYLE: 1 << 0, NO_ZEROES: 1 << 1 } as const;

/** Transmission flags: what the export can do. */
export const TRANSMISSION_FLAG = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  ROTATIONAL: 1 << 4,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_RESIZE: 1 << 9,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
} as const;

export const OPT = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  PEEK_EXPORT: 4,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

const REP_ERR = 2 ** 31;
export const REP = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: REP_ERR + 1,
  ERR_POLICY: REP_ERR + 2,
  ERR_INVALID: REP_ERR + 3,
  ERR_PLATFORM: REP_ERR + 4,
  ERR_TLS_REQD: REP_ERR + 5,
  ERR_UNKNOWN: REP_ERR + 6,
  ERR_SHUTDOWN: REP_ERR + 7,
  ERR_BLOCK_SIZE_REQD: REP_ERR + 8,
  ERR_TOO_BIG: REP_ERR + 9,
  ERR_EXT_HEADER_REQD: REP_ERR + 10,
} as const;

export const INFO = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

export const CMD = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

/** Command flags. PAYLOAD_LEN belongs to extended headers: the request's length is that of a payload. */
export const CMD_FLAG = {
  FUA: 1 << 0,
  NO_HOLE: 1 << 1,
  DF: 1 << 2,
  REQ_ONE: 1 << 3,
  FAST_ZERO: 1 << 4,
  PAYLOAD_LEN: 1 << 5,
} as const;

/** Structured reply flags. */
export const REPLY_FLAG_DONE = 1 << 0;

/** Set in every type that tells of an error. */
export const REPLY_ERROR_BIT = 1 << 15;
/** Structured reply types; an error type has bit 15. */
export const REPLY_TYPE = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: REPLY_ERROR_BIT + 1,
  ERROR_OFFSET: REPLY_ERROR_BIT + 2,
} as const;

/** Error values of replies. They look like Linux errno but are the protocol's own. */
export const NBD_ERRNO = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

export const BASE_ALLOCATION = "base:allocation";
/** Status flags of base:allocation. */
export const STATE = { HOLE: 1 << 0, ZERO: 1 << 1 } as const;

/** QEMU's namespace (docs/interop/nbd.rst of QEMU): a bitmap's name follows. */
export const DIRTY_BITMAP = "qemu:dirty-bitmap:";
/** Status flags of a dirty bitmap. */
export const DIRTY = 1 << 0;

/** The name of a number in one of the tables above, for messages. */
export function nameOf(table: Readonly<Record<string, number>>, number: number): string {
  return Object.keys(table).find((name) => table[name] === number) ?? String(number);
}
