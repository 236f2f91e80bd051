/** Small text files that a user names: certificates, keys. */
import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import { DiskError, fromErrno } from "../errors.js";

/** The text, or null when there is no such file. Refuses more than `limit` bytes, and what is no regular file. */
export function readTextFile(path: string, limit: number): string | null {
  let fd: number | undefined;
  try {
    fd = openSync(path, "r");
    const stats = fstatSync(fd);
    if (!stats.isFile() || stats.size > limit) {
      const found = stats.isFile() ? `it has ${stats.size} bytes, allowed 0..${limit}` : "it is no regular file";
      throw new DiskError("UNSUPPORTED", `Cannot read ${JSON.stringify(path)}: ${found}`);
    }
    return readFileSync(fd, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw fromErrno(`read ${JSON.stringify(path)}`, error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
