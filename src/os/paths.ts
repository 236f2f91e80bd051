/** Names in the file system: what is there. */
import { accessSync, constants, existsSync, realpathSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

export function pathExists(path: string): boolean {
  return existsSync(path);
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
