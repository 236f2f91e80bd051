/** The error names of the xenstore protocol (xs_wire.h, xsd_errors) and their one translation to and from `DiskError`. */
import { DiskError, type ErrorCode } from "../../errors.js";

/** In the order of xsd_errors. Any other name in an ERROR reply reads as EINVAL, as in libxenstore. */
export const XENSTORE_ERRNOS = [
  "EINVAL",
  "EACCES",
  "EEXIST",
  "EISDIR",
  "ENOENT",
  "ENOMEM",
  "ENOSPC",
  "EIO",
  "ENOTEMPTY",
  "ENOSYS",
  "EROFS",
  "EBUSY",
  "EAGAIN",
  "EISCONN",
  "E2BIG",
  "EPERM",
] as const;

export type XenstoreErrno = (typeof XENSTORE_ERRNOS)[number];

const MEANINGS: Record<XenstoreErrno, { code: ErrorCode; text: string }> = {
  EINVAL: { code: "PROTOCOL", text: "the request or path is malformed" },
  EACCES: { code: "DENIED", text: "permission denied" },
  EEXIST: { code: "DENIED", text: "it exists already" },
  EISDIR: { code: "DENIED", text: "it is a directory" },
  ENOENT: { code: "NOT_FOUND", text: "there is no such thing" },
  ENOMEM: { code: "NO_SPACE", text: "the store is out of memory, or the transaction failed earlier" },
  ENOSPC: { code: "NO_SPACE", text: "the domain's quota is used up" },
  EIO: { code: "IO", text: "the store failed" },
  ENOTEMPTY: { code: "DENIED", text: "it is not empty" },
  ENOSYS: { code: "UNSUPPORTED", text: "the store does not know this request" },
  EROFS: { code: "READ_ONLY", text: "it cannot be changed" },
  EBUSY: { code: "DENIED", text: "it is busy" },
  EAGAIN: { code: "DENIED", text: "another client changed what the transaction had read" },
  EISCONN: { code: "DENIED", text: "it is connected already" },
  E2BIG: { code: "NO_SPACE", text: "it is longer than a message can be" },
  EPERM: { code: "DENIED", text: "only the owner may" },
};

/** `Cannot <what>: <meaning> (<errno>)`, with the name in `details.errno`. */
export function xenstoreError(errno: XenstoreErrno, what: string): DiskError {
  const { code, text } = MEANINGS[errno];
  return new DiskError(code, `Cannot ${what}: ${text} (${errno})`, { details: { errno } });
}

/** The xenstore name of an error, undefined for an error that has none. */
export function xenstoreErrno(error: unknown): XenstoreErrno | undefined {
  const errno = error instanceof DiskError ? error.details.errno : undefined;
  return typeof errno === "string" && isErrno(errno) ? errno : undefined;
}

/** The name in an ERROR reply. */
export function parseErrno(text: string): XenstoreErrno {
  return isErrno(text) ? text : "EINVAL";
}

function isErrno(text: string): text is XenstoreErrno {
  return (XENSTORE_ERRNOS as readonly string[]).includes(text);
}
