/**
 * A saved domain as bytes: a header, a table of parts, the parts one after the other. Nothing lies between or behind them.
 *
 *   header | part | part | part | config (JSON) | nodes (JSON) | calls
 *
 * Version 1. Not in it: the guest's memory, which here is nothing but buffers of requests; those that had no answer are the calls.
 */

import { code, count64, magic, reserved, u32 } from "../bytes/field-types.js";
import { at, layout } from "../bytes/layout.js";

const SPEC = "xvdkit, saved domain version 1";

export const SAVED_DOMAIN = layout(
  "Saved domain",
  { endian: "le", size: 32, spec: SPEC },
  {
    signature: at(0, magic("XVDSAVED"), "identifies the file"),
    version: at(8, u32, "of the format; a reader refuses what it does not know"),
    parts: at(12, u32, "entries of the part table that follows"),
    tableCrc32c: at(16, u32, "CRC-32C of this header, with this field zero, and of the part table"),
    reserved: at(20, reserved(12), "zero"),
  },
);

export const SAVED_PART = layout(
  "Saved domain, part",
  { endian: "le", size: 24, spec: SPEC },
  {
    kind: at(0, code(u32, { config: 1, nodes: 2, calls: 3 }), "what the part holds; each kind once"),
    crc32c: at(4, u32, "CRC-32C of the part"),
    length: at(8, count64, "bytes of the part"),
    reserved: at(16, reserved(8), "zero"),
  },
);

export const SAVED_CALL = layout(
  "Saved domain, outstanding call",
  { endian: "le", size: 24, spec: SPEC },
  {
    devid: at(0, u32, "number of the virtual block device"),
    kind: at(4, code(u32, { write: 1, discard: 2, flush: 3 }), "what was asked for; a write is followed by its data"),
    offset: at(8, count64, "bytes"),
    length: at(16, count64, "bytes; 0 for a flush"),
  },
);
