// A sparse disk: 8 GiB with 2 GiB of data that does not compress.
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";

const SIZE = 8 * 2 ** 30;
/** 2 GiB of data: 64 runs of 32 MiB, each followed by 96 MiB of nothing. */
const RUNS = 64;
const RUN = 32 * 2 ** 20;
const STRIDE = SIZE / RUNS;

export function writeSparseFile(path) {
  const noise = new Uint32Array(2 ** 20);
  let state = 1;
  for (let i = 0; i < noise.length; i++) {
    state ^= state << 13; // xorshift32
    state ^= state >>> 17;
    state ^= state << 5;
    noise[i] = state;
  }
  const fd = openSync(path, "w");
  try {
    ftruncateSync(fd, SIZE);
    for (let run = 0; run < RUNS; run++)
      for (let at = 0; at < RUN; at += noise.byteLength) writeSync(fd, noise, 0, noise.byteLength, run * STRIDE + at);
  } finally {
    closeSync(fd);
  }
}
