/** Names in the file system: what is there. */
import { accessSync, closeSync, constants, existsSync, openSync, readdirSync, realpathSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fromErrno } from "../errors.js";

export function pathExists(path: string): boolean {
  return existsSync(path);
}

/** Whether it can be opened for reading and writing now: the permissions alone do not tell, inside a container for one. */
export function canBeOpened(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
    return true;
  } catch {
    return false;
  }
}

/** Absolute, and without links where the file is there. */
export function canonicalPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}

export type PathKind = "file" | "block" | "directory" | "other";

/** What lies at `path`, links followed; null when nothing does. */
export function pathKind(path: string): PathKind | null {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats) return null;
  return stats.isFile() ? "file" : stats.isBlockDevice() ? "block" : stats.isDirectory() ? "directory" : "other";
}

/** Whether `path` leads to the file that `identity` (of an `OpenFile`) means. */
export function leadsTo(path: string, identity: string): boolean {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats !== undefined && `${stats.dev}:${stats.ino}` === identity;
}

/** Whether there is something at `path` that may be a disk: anything but a directory. */
export function mayBeDisk(path: string): boolean {
  const kind = pathKind(path);
  return kind !== null && kind !== "directory";
}

/** The folder of a file when new files may be made there, else null. */
export function writableFolderOf(path: string): string | null {
  try {
    const folder = dirname(realpathSync(path));
    accessSync(folder, constants.W_OK);
    return folder;
  } catch {
    return null;
  }
}

/** What tells one state of a file from another, as decimal text; times in nanoseconds. Null for what is no file. */
export function fileStamp(path: string): { size: string; modified: string; inode: string } | null {
  const stats = statSync(path, { throwIfNoEntry: false, bigint: true });
  if (!stats?.isFile()) return null;
  return { size: String(stats.size), modified: String(stats.mtimeNs), inode: String(stats.ino) };
}

/** Names in a folder; none where there is no folder. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw fromErrno(`look into ${JSON.stringify(folder)}`, error);
  }
}
