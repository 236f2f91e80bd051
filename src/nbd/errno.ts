/** The edge between our errors and the protocol's error values, in both directions. */
import { DiskError, type ErrorCode } from "../errors.js";
import { NBD_ERRNO, nameOf } from "./codes.js";

const BY_CODE: Record<ErrorCode, number> = {
  READ_ONLY: NBD_ERRNO.EPERM,
  DENIED: NBD_ERRNO.EPERM,
  NO_SPACE: NBD_ERRNO.ENOSPC,
  UNSUPPORTED: NBD_ERRNO.ENOTSUP,
  CORRUPT: NBD_ERRNO.EIO,
  NOT_FOUND: NBD_ERRNO.EIO,
  PROTOCOL: NBD_ERRNO.EIO,
  IO: NBD_ERRNO.EIO,
};

const BY_ERRNO: Record<string, number> = {
  EPERM: NBD_ERRNO.EPERM,
  EACCES: NBD_ERRNO.EPERM,
  EROFS: NBD_ERRNO.EPERM,
  ENOSPC: NBD_ERRNO.ENOSPC,
  EDQUOT: NBD_ERRNO.ENOSPC,
  EFBIG: NBD_ERRNO.ENOSPC,
  ENOMEM: NBD_ERRNO.ENOMEM,
};

/** What a client is told about an error of the device. Never 0; what is not understood is EIO. */
export function toNbdErrno(error: unknown): number {
  if (error instanceof DiskError) return BY_CODE[error.code];
  // Only a device that shrank meanwhile still refuses a range, since requests were checked before.
  if (error instanceof RangeError) return NBD_ERRNO.EINVAL;
  return BY_ERRNO[(error as NodeJS.ErrnoException | undefined)?.code ?? ""] ?? NBD_ERRNO.EIO;
}

const CODES: Record<number, ErrorCode> = {
  [NBD_ERRNO.EPERM]: "DENIED",
  [NBD_ERRNO.ENOSPC]: "NO_SPACE",
  [NBD_ERRNO.ENOTSUP]: "UNSUPPORTED",
};

/** A server's error as ours. `verb`, `label` and `where` make the sentence; `message` is the server's own text, if it sent one. */
export function fromNbdErrno(errno: number, verb: string, label: string, where: string, message: string): DiskError {
  const name = nameOf(NBD_ERRNO, errno);
  const said = message === "" ? "" : `: ${JSON.stringify(message)}`;
  return new DiskError(CODES[errno] ?? "IO", `Cannot ${verb} ${label}: the server answered ${name}${said} (${where})`, {
    details: { errno: name },
  });
}
