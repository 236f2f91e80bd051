/** The one error that xvdkit throws for bad disks, bad peers and refused requests. Misuse of the API is `TypeError` or `RangeError`. */

export type ErrorCode =
  /** Bytes contradict their specification. */
  | "CORRUPT"
  /** A valid thing that this version does not do. */
  | "UNSUPPORTED"
  /** A file, partition, domain or device of that name does not exist. */
  | "NOT_FOUND"
  /** A write to something that was opened for reading or may only be read. */
  | "READ_ONLY"
  /** A gate or a lock said no, or the thing exists already. */
  | "DENIED"
  /** The disk, table or file system is full, or the request is larger than it. */
  | "NO_SPACE"
  /** A peer broke its protocol. */
  | "PROTOCOL"
  /** The operating system or a device failed. */
  | "IO";

export type ErrorDetails = Record<string, string | number | boolean | null | readonly (string | number)[]>;

/** Text is `Cannot <verb> <object>: <found>, <allowed> (<where>)`, without a final period. */
export class DiskError extends Error {
  override readonly name = "DiskError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: { details?: ErrorDetails; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
  }
}

const BY_ERRNO: Record<string, ErrorCode> = {
  ENOENT: "NOT_FOUND",
  ENOTDIR: "NOT_FOUND",
  EEXIST: "DENIED",
  EACCES: "DENIED",
  EPERM: "DENIED",
  EROFS: "READ_ONLY",
  ENOSPC: "NO_SPACE",
  EDQUOT: "NO_SPACE",
  EFBIG: "NO_SPACE",
};

const SENTENCES: Record<string, string> = {
  ENOENT: "no such file or directory",
  ENOTDIR: "a part of the path is not a directory",
  EEXIST: "it exists already",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EROFS: "the file system is read-only",
  ENOSPC: "no space left on the file system",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file would be larger than the file system or the limit on file sizes allows",
  EISDIR: "it is a directory",
  EIO: "input/output error",
};

/** The operating system's error, retold as `Cannot <what>: <reason>`. A `DiskError` passes unchanged. */
export function fromErrno(what: string, error: unknown): DiskError {
  if (error instanceof DiskError) return error;
  const errno = (error as NodeJS.ErrnoException | undefined)?.code;
  const reason = (errno && SENTENCES[errno]) ?? (error instanceof Error ? error.message : String(error));
  return new DiskError((errno && BY_ERRNO[errno]) || "IO", `Cannot ${what}: ${reason}`, {
    ...(errno ? { details: { errno } } : {}),
    cause: error,
  });
}
