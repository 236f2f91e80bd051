/** Holes in files: found (SEEK_DATA, SEEK_HOLE), made (punch), filled (zero range, preallocation); each with a plain way where the system cannot. */

import { errnoError, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, negative } from "./libc.js";
import type { OpenFile } from "./open-file.js";

/** Bytes of one kind, from the offset that was asked for up to `end`. */
export interface Run {
  readonly data: boolean;
  readonly end: number;
}

const PIECE = 1 << 20;
const NO_SUCH_OFFSET = negative("ENXIO");
/** What file systems and kernels answer that do not have the call. */
const CANNOT = new Set([negative("EOPNOTSUPP"), negative("ENOSYS"), negative("EINVAL"), negative("ENODEV")]);

export function runAt(file: OpenFile, offset: number, limit: number): Run {
  if (!file.native || file.isBlockDevice) return { data: true, end: limit };
  const data = file.native.seekData(file.fd, offset);
  // No data from here on: a hole up to the end, or an offset behind it in a file that somebody has cut, whose reads must fail.
  if (data === NO_SUCH_OFFSET) return { data: file.native.seekHole(file.fd, offset) < 0, end: limit };
  if (data < 0) return { data: true, end: limit };
  if (data > offset) return { data: false, end: Math.min(data, limit) };
  const hole = file.native.seekHole(file.fd, offset);
  return { data: true, end: hole > offset ? Math.min(hole, limit) : limit };
}

/** Zeros without space. Behind the file's end there is nothing to do. */
export async function deallocate(file: OpenFile, offset: number, length: number): Promise<void> {
  const end = Math.min(offset + length, file.size);
  if (end <= offset) return;
  if (await fallocated(file, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, end - offset)) return;
  await writeZeros(file, offset, end);
}

/** Zeros with space. */
export async function zeroInPlace(file: OpenFile, offset: number, length: number): Promise<void> {
  const end = Math.min(offset + length, file.size);
  if (end <= offset) return;
  if (await fallocated(file, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, offset, end - offset)) return;
  await writeZeros(file, offset, end);
}

/** Space for a range whose contents stay; the file grows to hold it. Without the call every piece is read and written back. */
export async function allocate(file: OpenFile, offset: number, length: number): Promise<void> {
  if (length === 0 || file.isBlockDevice || (await fallocated(file, 0, offset, length))) return;
  const end = offset + length;
  if (file.size < end) await file.resize(end);
  const piece = new Uint8Array(Math.min(PIECE, length));
  for (let at = offset; at < end; at += piece.length) {
    const part = piece.subarray(0, Math.min(piece.length, end - at));
    await file.read(at, part);
    await file.write(at, part);
  }
}

/** False where the call does not exist; other failures throw. */
async function fallocated(file: OpenFile, mode: number, offset: number, length: number): Promise<boolean> {
  if (!file.native) return false;
  const result = await file.native.fallocate(file.fd, mode, offset, length);
  if (result >= 0) return true;
  if (CANNOT.has(result)) return false;
  throw errnoError(result, "fallocate");
}

async function writeZeros(file: OpenFile, offset: number, end: number): Promise<void> {
  const zeros = new Uint8Array(Math.min(PIECE, end - offset));
  for (let at = offset; at < end; at += zeros.length)
    await file.write(at, zeros.subarray(0, Math.min(zeros.length, end - at)));
}
