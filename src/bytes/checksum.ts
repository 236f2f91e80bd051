/** CRC-32 (IEEE), as in GPT and gzip, by Node's own zlib: a table in JavaScript costs more to set up than a short command takes. */
import { crc32 as zlibCrc32 } from "node:zlib";

/** As an unsigned number. `seed` continues an earlier result. */
export function crc32(bytes: Uint8Array, seed = 0): number {
  return zlibCrc32(bytes, seed);
}
