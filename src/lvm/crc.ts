/** LVM2's checksum: CRC-32 (reflected 0xEDB88320) with a start value of its own and no inversion at the end. LVM2 lib/misc/crc.c. */
import { crc32 } from "../bytes/checksum.js";

/** The complement of LVM2's start value 0xF597A6CF, as zlib inverts at begin and end. */
const SEED = 0x0a685930;

/** Of labels, metadata area headers and metadata texts, as an unsigned number. */
export function lvmCrc(bytes: Uint8Array): number {
  return (crc32(bytes, SEED) ^ 0xffffffff) >>> 0;
}
