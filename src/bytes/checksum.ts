/** CRC-32 (IEEE) and CRC-32C as unsigned numbers, by the `crc-32` package. */
import CRC32 from "crc-32";
import CRC32C from "crc-32/crc32c.js";

/** IEEE CRC-32 (GPT, zlib). `seed` continues an earlier result. */
export function crc32(bytes: Uint8Array, seed = 0): number {
  return CRC32.buf(bytes, seed | 0) >>> 0;
}

/** CRC-32C (Castagnoli) as in ext4, XFS and VHDX, with the usual inversions at both ends. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  return CRC32C.buf(bytes, seed | 0) >>> 0;
}
