/** CRC-32C (Castagnoli), as in ext4, XFS, btrfs and VHDX, by the `crc-32` package. */
import CRC32C from "crc-32/crc32c.js";

/** As an unsigned number, with the usual inversions at both ends. `seed` continues an earlier result. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  return CRC32C.buf(bytes, seed | 0) >>> 0;
}
