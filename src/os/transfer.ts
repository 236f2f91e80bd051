/** Bytes from file to file without passing through this process, where kernel and file system can. */

import { errnoError, negative, SYNC_WRITE } from "./libc.js";
import type { OpenFile } from "./open-file.js";

/** Answers that mean "not between these two files", after which the caller copies by itself. */
const CANNOT = new Set(
  (["EXDEV", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EPERM", "ENOTTY", "EBADF"] as const).map(negative),
);

/** Bytes copied; 0 where the kernel cannot, or the source ends. */
export async function copyRange(
  from: OpenFile,
  to: OpenFile,
  offset: number,
  toOffset: number,
  length: number,
): Promise<number> {
  if (!from.native || !to.native) return 0;
  const result = await from.native.copyFileRange(from.fd, offset, to.fd, toOffset, length);
  if (result < 0 && !CANNOT.has(result)) throw errnoError(result, "copy_file_range");
  return Math.max(result, 0);
}

/** Whether the range of `to` now shares the blocks of `from`: whole blocks, or up to the end of both files. */
export async function shareRange(
  from: OpenFile,
  to: OpenFile,
  offset: number,
  toOffset: number,
  length: number,
): Promise<boolean> {
  if (!from.native || !to.native) return false;
  const result = await from.native.cloneRange(from.fd, offset, to.fd, toOffset, length);
  if (result < 0 && !CANNOT.has(result)) throw errnoError(result, "ioctl FICLONERANGE");
  return result >= 0;
}

/** Whether `to` now shares all blocks of `from`, its size included. */
export async function shareAll(from: OpenFile, to: OpenFile): Promise<boolean> {
  if (!from.native || !to.native) return false;
  const result = await from.native.clone(from.fd, to.fd);
  if (result < 0 && !CANNOT.has(result)) throw errnoError(result, "ioctl FICLONE");
  return result >= 0;
}

/** Begins to write dirty pages of the range to the disk, so that a later sync finds little to do. Failures show at that sync. */
export async function startWriteback(file: OpenFile, offset: number, length: number): Promise<void> {
  if (length > 0) await file.native?.syncFileRange(file.fd, offset, length, SYNC_WRITE);
}
