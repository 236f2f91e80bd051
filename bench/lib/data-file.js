// Files of data that no layer can cheat on: neither zero nor repeating, the same in every run.
import { closeSync, openSync, writeSync } from "node:fs";

const CHUNK = 4 * 2 ** 20;

/** Writes `size` bytes of seeded noise; they are in the page cache afterwards. */
export function writeDataFile(path, size, seed = 1) {
  const chunk = new Uint32Array(CHUNK / 4);
  let state = seed >>> 0 || 1;
  const fd = openSync(path, "w");
  try {
    for (let offset = 0; offset < size; offset += CHUNK) {
      for (let index = 0; index < chunk.length; index++) {
        state ^= state << 13; // xorshift32
        state ^= state >>> 17;
        state ^= state << 5;
        chunk[index] = state;
      }
      writeSync(fd, chunk, 0, Math.min(CHUNK, size - offset), offset);
    }
  } finally {
    closeSync(fd);
  }
}
