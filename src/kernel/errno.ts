/** What a failure is to the kernel: negative errno values of Linux, generic ABI. */
import { DiskError } from "../errors.js";

export const ERRNO = {
  EPERM: -1,
  ENOENT: -2,
  EINTR: -4,
  EIO: -5,
  EAGAIN: -11,
  EBUSY: -16,
  ENODEV: -19,
  ENXIO: -6,
  EINVAL: -22,
  ENOSPC: -28,
  EROFS: -30,
  ENOSYS: -38,
  EPROTO: -71,
  EOPNOTSUPP: -95,
} as const;

/** The device's failure as the errno that a request is answered with. */
export function toErrno(error: unknown): number {
  if (error instanceof RangeError) return ERRNO.EINVAL;
  if (!(error instanceof DiskError)) return ERRNO.EIO;
  if (error.code === "READ_ONLY") return ERRNO.EROFS;
  return error.code === "NO_SPACE" ? ERRNO.ENOSPC : ERRNO.EIO;
}
