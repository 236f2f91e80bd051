/** Files without a name (Linux's O_TMPFILE): whatever happens to this process, nothing of them is left. */
import { constants, existsSync, openSync } from "node:fs";

/** Node has no name for it. */
const O_TMPFILE = 0o20_000_000 | (constants.O_DIRECTORY ?? 0);

/** Answers of systems and file systems that have no such files. */
const CANNOT = ["EOPNOTSUPP", "EISDIR", "EINVAL", "ENOTSUP"];

/** An empty one on the file system of `folder`, for reading and writing; null where there are none. */
export function openNamelessIn(folder: string, mode: number): number | null {
  if (!existsSync("/proc/self/fd")) return null; // the only way to it, and a sign of Linux
  try {
    return openSync(folder, O_TMPFILE | constants.O_RDWR, mode);
  } catch (error) {
    if (CANNOT.includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}
