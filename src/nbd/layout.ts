/**
 * Structures of the NBD protocol (doc/proto.md of NetworkBlockDevice/nbd), all big-endian. Text and payload follow the structure.
 * Requests and replies are read and written field by field at these tables' offsets; the handshake uses the codecs.
 * Not here: oldstyle negotiation.
 */
import { bytes, constant, count64, u16, u32, u64 } from "../bytes/field-types.js";
import { at, type FieldType, layout } from "../bytes/layout.js";
import {
  EXTENDED_REPLY_MAGIC,
  EXTENDED_REQUEST_MAGIC,
  IHAVEOPT,
  INFO,
  NBDMAGIC,
  OPTION_REPLY_MAGIC,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from "./codes.js";

const PROTO = "NBD doc/proto.md";

function magic64(expected: bigint): FieldType<bigint> {
  return {
    ...u64,
    fallback: expected,
    decode(view, offset, little) {
      const found = u64.decode(view, offset, little);
      if (found !== expected) throw new Error(`0x${found.toString(16)}, allowed 0x${expected.toString(16)}`);
      return found;
    },
    print: (value) => `0x${value.toString(16)}`,
  };
}

export const GREETING = layout(
  "NBD greeting",
  { endian: "be", size: 18, spec: `${PROTO}, Newstyle negotiation` },
  {
    magic: at(0, magic64(NBDMAGIC), "NBDMAGIC"),
    optionMagic: at(8, magic64(IHAVEOPT), "IHAVEOPT"),
    handshakeFlags: at(16, u16, "HANDSHAKE_FLAG"),
  },
);

export const CLIENT_FLAGS = layout(
  "NBD client flags",
  { endian: "be", size: 4, spec: `${PROTO}, Newstyle negotiation` },
  {
    flags: at(0, u32, "CLIENT_FLAG"),
  },
);

export const OPTION = layout(
  "NBD option",
  { endian: "be", size: 16, spec: `${PROTO}, Newstyle negotiation` },
  {
    magic: at(0, magic64(IHAVEOPT), "IHAVEOPT"),
    option: at(8, u32, "OPT"),
    length: at(12, u32, "bytes of data that follow"),
  },
);

export const OPTION_REPLY = layout(
  "NBD option reply",
  { endian: "be", size: 20, spec: `${PROTO}, Fixed newstyle negotiation` },
  {
    magic: at(0, magic64(OPTION_REPLY_MAGIC), "identifies the reply"),
    option: at(8, u32, "the option that is answered"),
    type: at(12, u32, "REP"),
    length: at(16, u32, "bytes of data that follow"),
  },
);

/** Answer to OPT_EXPORT_NAME. 124 zeros follow unless NO_ZEROES was agreed. */
export const EXPORT_NAME_REPLY = layout(
  "NBD export",
  { endian: "be", size: 10, spec: `${PROTO}, Newstyle negotiation` },
  {
    size: at(0, count64, "bytes of the export"),
    flags: at(8, u16, "TRANSMISSION_FLAG"),
  },
);
export const EXPORT_NAME_ZEROES = 124;

export const INFO_EXPORT = layout(
  "NBD_INFO_EXPORT",
  { endian: "be", size: 12, spec: `${PROTO}, NBD_INFO_EXPORT` },
  {
    type: at(0, constant(u16, INFO.EXPORT), "INFO.EXPORT"),
    size: at(2, count64, "bytes of the export"),
    flags: at(10, u16, "TRANSMISSION_FLAG"),
  },
);

export const INFO_BLOCK_SIZE = layout(
  "NBD_INFO_BLOCK_SIZE",
  { endian: "be", size: 14, spec: `${PROTO}, NBD_INFO_BLOCK_SIZE` },
  {
    type: at(0, constant(u16, INFO.BLOCK_SIZE), "INFO.BLOCK_SIZE"),
    minimum: at(2, u32, "offsets and lengths are multiples of it; a power of two up to 64 KiB"),
    preferred: at(6, u32, "requests of this size and alignment do well; a power of two"),
    maximumPayload: at(10, u32, "most bytes of one read or write"),
  },
);

export const REQUEST = layout(
  "NBD request",
  { endian: "be", size: 28, spec: `${PROTO}, Compact request message` },
  {
    magic: at(0, constant(u32, REQUEST_MAGIC), "identifies the request"),
    flags: at(4, u16, "CMD_FLAG"),
    type: at(6, u16, "CMD"),
    cookie: at(8, bytes(8), "comes back in the reply"),
    offset: at(16, u64, "bytes; all 64 bits may be set by a hostile client"),
    length: at(24, u32, "bytes"),
  },
);

/** The same fields as in REQUEST at the same places, with a longer length. */
export const EXTENDED_REQUEST = layout(
  "NBD extended request",
  { endian: "be", size: 32, spec: `${PROTO}, Extended request message` },
  {
    magic: at(0, constant(u32, EXTENDED_REQUEST_MAGIC), "identifies the request"),
    flags: at(4, u16, "CMD_FLAG"),
    type: at(6, u16, "CMD"),
    cookie: at(8, bytes(8), "comes back in the reply"),
    offset: at(16, u64, "bytes; all 64 bits may be set by a hostile client"),
    length: at(24, u64, "bytes; of the payload with PAYLOAD_LEN, else of the effect"),
  },
);

export const SIMPLE_REPLY = layout(
  "NBD simple reply",
  { endian: "be", size: 16, spec: `${PROTO}, Simple reply message` },
  {
    magic: at(0, constant(u32, SIMPLE_REPLY_MAGIC), "identifies the reply"),
    error: at(4, u32, "NBD_ERRNO, 0 for success"),
    cookie: at(8, bytes(8), "the request's"),
  },
);

export const STRUCTURED_REPLY = layout(
  "NBD structured reply chunk",
  { endian: "be", size: 20, spec: `${PROTO}, Structured reply chunk message` },
  {
    magic: at(0, constant(u32, STRUCTURED_REPLY_MAGIC), "identifies the chunk"),
    flags: at(4, u16, "REPLY_FLAG_DONE"),
    type: at(6, u16, "REPLY_TYPE"),
    cookie: at(8, bytes(8), "the request's"),
    length: at(16, u32, "bytes of payload that follow"),
  },
);

export const EXTENDED_REPLY = layout(
  "NBD extended reply chunk",
  { endian: "be", size: 32, spec: `${PROTO}, Extended reply chunk message` },
  {
    magic: at(0, constant(u32, EXTENDED_REPLY_MAGIC), "identifies the chunk"),
    flags: at(4, u16, "REPLY_FLAG_DONE"),
    type: at(6, u16, "REPLY_TYPE"),
    cookie: at(8, bytes(8), "the request's"),
    offset: at(16, u64, "the request's"),
    length: at(24, u64, "bytes of payload that follow"),
  },
);

/** Payload of REPLY_TYPE.OFFSET_DATA; the data follow. */
export const OFFSET_DATA = layout(
  "NBD_REPLY_TYPE_OFFSET_DATA",
  { endian: "be", size: 8, spec: `${PROTO}, NBD_REPLY_TYPE_OFFSET_DATA` },
  {
    offset: at(0, u64, "where the data lie in the export"),
  },
);

export const OFFSET_HOLE = layout(
  "NBD_REPLY_TYPE_OFFSET_HOLE",
  { endian: "be", size: 12, spec: `${PROTO}, NBD_REPLY_TYPE_OFFSET_HOLE` },
  {
    offset: at(0, u64, "where the hole lies in the export"),
    length: at(8, u32, "bytes of zeros, not 0"),
  },
);

/** Head of REPLY_TYPE.BLOCK_STATUS; one or more descriptors follow. */
export const BLOCK_STATUS = layout(
  "NBD_REPLY_TYPE_BLOCK_STATUS",
  { endian: "be", size: 4, spec: `${PROTO}, NBD_REPLY_TYPE_BLOCK_STATUS` },
  {
    contextId: at(0, u32, "as given by SET_META_CONTEXT"),
  },
);

export const BLOCK_DESCRIPTOR = layout(
  "NBD block descriptor",
  { endian: "be", size: 8, spec: `${PROTO}, NBD_REPLY_TYPE_BLOCK_STATUS` },
  {
    length: at(0, u32, "bytes, not 0"),
    status: at(4, u32, "STATE"),
  },
);

/** Head of REPLY_TYPE.BLOCK_STATUS_EXT; that many descriptors follow. */
export const BLOCK_STATUS_EXT = layout(
  "NBD_REPLY_TYPE_BLOCK_STATUS_EXT",
  { endian: "be", size: 8, spec: `${PROTO}, NBD_REPLY_TYPE_BLOCK_STATUS_EXT` },
  {
    contextId: at(0, u32, "as given by SET_META_CONTEXT"),
    count: at(4, u32, "descriptors that follow, not 0"),
  },
);

export const BLOCK_DESCRIPTOR_EXT = layout(
  "NBD extended block descriptor",
  { endian: "be", size: 16, spec: `${PROTO}, NBD_REPLY_TYPE_BLOCK_STATUS_EXT` },
  {
    length: at(0, u64, "bytes, not 0"),
    status: at(8, u64, "flags of the context"),
  },
);

/** Head of every error chunk; the message follows, then for ERROR_OFFSET a 64-bit offset. */
export const ERROR_CHUNK = layout(
  "NBD_REPLY_TYPE_ERROR",
  { endian: "be", size: 6, spec: `${PROTO}, NBD_REPLY_TYPE_ERROR` },
  {
    error: at(0, u32, "NBD_ERRNO, not 0"),
    messageLength: at(4, u16, "bytes of text that follow"),
  },
);
