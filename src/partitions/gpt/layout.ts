/** GUID partition table: header and entry (UEFI 2.10, chapter 5.3). Both may be longer on disk; what follows is kept as it is. */

import { bytes, count64, guid, magic, reserved, u32, u64 } from "../../bytes/field-types.js";
import { at, type Decoded, layout } from "../../bytes/layout.js";

export const GPT_SIGNATURE = "EFI PART";

export const GPT_HEADER = layout(
  "GPT header",
  { endian: "le", size: 92, spec: "UEFI 2.10, 5.3.2" },
  {
    signature: at(0, magic(GPT_SIGNATURE), "identifies the header"),
    revision: at(8, u32, "0x00010000 for version 1.0"),
    headerSize: at(12, u32, "bytes covered by headerCrc32, 92 up to the block size"),
    headerCrc32: at(16, u32, "CRC-32 of headerSize bytes with this field zero"),
    reserved: at(20, reserved(4), "zero"),
    myLba: at(24, count64, "block that holds this header"),
    alternateLba: at(32, count64, "block that holds the other header"),
    firstUsableLba: at(40, count64, "first block that a partition may use"),
    lastUsableLba: at(48, count64, "last block that a partition may use, inclusive"),
    diskGuid: at(56, guid, "identity of the disk"),
    entriesLba: at(72, count64, "first block of this copy's entry array"),
    entryCount: at(80, u32, "entries in the array, used or not"),
    entrySize: at(84, u32, "bytes per entry: 128 times a power of two"),
    entriesCrc32: at(88, u32, "CRC-32 of entryCount * entrySize bytes"),
  },
);
export type GptHeader = Decoded<typeof GPT_HEADER>;

export const GPT_ENTRY = layout(
  "GPT entry",
  { endian: "le", size: 128, spec: "UEFI 2.10, 5.3.3" },
  {
    typeGuid: at(0, guid, "what the partition is for; all zeros: the entry is unused"),
    uniqueGuid: at(16, guid, "identity of the partition"),
    firstLba: at(32, count64, "first block"),
    lastLba: at(40, count64, "last block, inclusive"),
    attributes: at(48, u64, "bits 0-2 for all types, 48-63 by type, the rest reserved"),
    name: at(56, bytes(72), "36 UTF-16LE units, ended by a zero unit when shorter"),
  },
);
export type GptEntry = Decoded<typeof GPT_ENTRY>;

export const ENTRY_SIZE = 128;
export const ENTRY_COUNT = 128;
/** UEFI 2.10, 5.3.1: at least this much is reserved for the array. */
export const MIN_ARRAY_BYTES = 16384;
/** Larger arrays are refused: two of them still fit into the reader's 1 MiB. */
export const MAX_ARRAY_BYTES = 384 * 1024;
export const NAME_UNITS = 36;

/** Partition names may hold a zero unit followed by other bytes; only the text before it is the name. */
export function decodeName(field: Uint8Array): string {
  const view = new DataView(field.buffer, field.byteOffset, field.length);
  let name = "";
  for (let i = 0; i < NAME_UNITS; i++) {
    const unit = view.getUint16(i * 2, true);
    if (unit === 0) break;
    name += String.fromCharCode(unit);
  }
  return name;
}

/** Throws `RangeError` for more than 36 units or a zero unit within. */
export function encodeName(name: string): Uint8Array {
  if (name.length > NAME_UNITS)
    throw new RangeError(`${JSON.stringify(name)} has ${name.length} UTF-16 units, allowed up to ${NAME_UNITS}`);
  if (name.includes("\0")) throw new RangeError(`${JSON.stringify(name)} holds a zero unit`);
  const field = new Uint8Array(NAME_UNITS * 2);
  const view = new DataView(field.buffer);
  for (let i = 0; i < name.length; i++) view.setUint16(i * 2, name.charCodeAt(i), true);
  return field;
}
