/** Virtual hard disks: footer and dynamic header (Microsoft, Virtual Hard Disk Image Format Specification 1.0). All numbers are big-endian. */
import { bytes, code, count64, magic, reserved, text, u8, u16, u32, u64 } from "../../bytes/field-types.js";
import { at, type Decoded, layout } from "../../bytes/layout.js";

const SPEC = "Virtual Hard Disk Image Format Specification 1.0";

export const VHD_FOOTER = layout(
  "VHD footer",
  { endian: "be", size: 512, spec: `${SPEC}, Hard Disk Footer Format` },
  {
    cookie: at(0, magic("conectix"), "identifies the file"),
    features: at(8, u32, "bit 0: temporary; bit 1 is always set"),
    version: at(12, u32, "0x00010000"),
    headerOffset: at(16, u64, "byte of the dynamic header; all ones for a fixed disk"),
    timestamp: at(24, u32, "seconds since 2000-01-01 UTC when the disk was made"),
    creator: at(28, text(4), "program that made it: 'win ', 'vpc ', 'tap', 'qemu' ..."),
    creatorVersion: at(32, u32, "major version in the upper 16 bits"),
    creatorHost: at(36, text(4), "'Wi2k' or 'Mac '"),
    originalSize: at(40, count64, "bytes of the disk when it was made"),
    currentSize: at(48, count64, "bytes of the disk"),
    cylinders: at(56, u16, "geometry"),
    heads: at(58, u8, "geometry"),
    sectorsPerTrack: at(59, u8, "geometry"),
    type: at(60, code(u32, { fixed: 2, dynamic: 3, differencing: 4 }), "2 fixed, 3 dynamic, 4 differencing"),
    checksum: at(64, u32, "ones' complement of the sum of all bytes, with this field zero"),
    uuid: at(68, bytes(16), "identity of the image"),
    savedState: at(84, u8, "1: a machine's state is saved with it"),
    reserved: at(85, reserved(427), "zero"),
  },
);
export type VhdFooter = Decoded<typeof VHD_FOOTER>;

export const VHD_HEADER = layout(
  "VHD dynamic header",
  { endian: "be", size: 1024, spec: `${SPEC}, Dynamic Disk Header Format` },
  {
    cookie: at(0, magic("cxsparse"), "identifies the header"),
    nextOffset: at(8, u64, "all ones"),
    tableOffset: at(16, count64, "byte of the block allocation table"),
    version: at(24, u32, "0x00010000"),
    blocks: at(28, u32, "entries of the table"),
    blockSize: at(32, u32, "bytes of a block's data, usually 2 MiB"),
    checksum: at(36, u32, "as in the footer"),
    parentUuid: at(40, bytes(16), "identity of the image beneath"),
    parentTimestamp: at(56, u32, "when the image beneath was changed, seconds since 2000"),
    reserved: at(60, u32, "zero"),
    parentName: at(64, bytes(512), "name of the image beneath, UTF-16BE"),
    locators: at(576, bytes(192), "eight entries that say where the image beneath is"),
    rest: at(768, reserved(256), "zero"),
  },
);
export type VhdHeader = Decoded<typeof VHD_HEADER>;

export const VHD_LOCATOR = layout(
  "VHD parent locator",
  { endian: "be", size: 24, spec: `${SPEC}, Parent Locator` },
  {
    platform: at(0, text(4), "W2ru, W2ku: a Windows path in UTF-16LE, relative or absolute; MacX: a URL in UTF-8"),
    space: at(4, u32, "sectors that are set aside for it; some programs count bytes"),
    length: at(8, u32, "bytes of it"),
    reserved: at(12, u32, "zero"),
    offset: at(16, count64, "byte in the file"),
  },
);
export type VhdLocator = Decoded<typeof VHD_LOCATOR>;

export const LOCATORS = 8;
export const SECTOR = 512;
export const TABLE_ENTRY_SIZE = 4;
/** Entry of a block that is not in the file. */
export const TABLE_ABSENT = 0xffff_ffff;
export const NO_OFFSET = 0xffff_ffff_ffff_ffffn;
export const VERSION = 0x0001_0000;
export const DEFAULT_BLOCK_SIZE = 2 << 20;
/** The limit of the specification: sectors that its tools address. */
export const MAX_SIZE = 2040 * 2 ** 30;
/** Seconds from 1970 to 2000. */
export const EPOCH = 946_684_800;

/** Ones' complement of the sum of all bytes; `bytes` has zeros where the checksum stands. */
export function checksumOf(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) sum += byte;
  return ~sum >>> 0;
}

export function encodeFooter(footer: VhdFooter): Uint8Array {
  const encoded = VHD_FOOTER.encode({ ...footer, checksum: 0 });
  return VHD_FOOTER.encode({ ...footer, checksum: checksumOf(encoded) });
}

export function encodeHeader(header: VhdHeader): Uint8Array {
  const encoded = VHD_HEADER.encode({ ...header, checksum: 0 });
  return VHD_HEADER.encode({ ...header, checksum: checksumOf(encoded) });
}

/** Bytes in front of a block's data: a bit for each of its sectors, in whole sectors. */
export function bitmapBytes(blockSize: number): number {
  return Math.ceil(blockSize / SECTOR / 8 / SECTOR) * SECTOR;
}
