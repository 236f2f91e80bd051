/** The two checksums of ext that a new UUID touches. Both are "raw": no inversion at the end, and they begin with all ones. */
import { crc32c } from "../../bytes/crc32c.js";
import { parseUuid } from "../../bytes/guid.js";
import { EXT_SUPERBLOCK } from "./layout.js";

/** CRC-32C without the final inversion, as ext4 stores it. */
export function rawCrc32c(bytes: Uint8Array): number {
  return ~crc32c(bytes) >>> 0;
}

/** What all metadata checksums begin with when the file system has this UUID and no seed of its own. */
export function seedOf(uuid: string): number {
  return rawCrc32c(parseUuid(uuid));
}

export function superblockChecksum(bytes: Uint8Array): number {
  return rawCrc32c(bytes.subarray(0, EXT_SUPERBLOCK.fields.checksum.offset));
}

/** Of the checksum within a group descriptor, in bytes. */
const CHECKSUM_AT = 0x1e;

/** Sets the uninit_bg checksum of one group descriptor: CRC-16 over UUID, group number (u32) and the descriptor without the field itself. */
export function setDescriptorChecksum(descriptor: Uint8Array, uuid: string, group: number): void {
  const number = new Uint8Array(4);
  new DataView(number.buffer).setUint32(0, group, true);
  const before = crc16(crc16(crc16(0xffff, parseUuid(uuid)), number), descriptor.subarray(0, CHECKSUM_AT));
  const checksum = crc16(before, descriptor.subarray(CHECKSUM_AT + 2));
  new DataView(descriptor.buffer, descriptor.byteOffset).setUint16(CHECKSUM_AT, checksum, true);
}

/** CRC-16 of polynomial 0x8005, bits reversed (ANSI). */
function crc16(seed: number, bytes: Uint8Array): number {
  let crc = seed;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC16_TABLE[(crc ^ byte) & 0xff]!;
  return crc;
}

const CRC16_TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xa001 : crc >>> 1;
  return crc;
});
