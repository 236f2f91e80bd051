/** Names in the file system: what is there, and a scratch file that goes away. */
import { accessSync, constants, existsSync, mkdtempSync, promises, realpathSync, rmSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fromErrno } from "../errors.js";

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

/**
 * Runs `work` with an empty sparse file of `size` bytes that other programs can open by name, and removes it afterwards,
 * whatever happened. It lies in a hidden folder of its own within `folder`, readable by nobody else.
 */
export async function withScratchFile<T>(folder: string, size: number, work: (path: string) => Promise<T>): Promise<T> {
  let own: string | undefined;
  try {
    own = mkdtempSync(join(folder, ".xvd-"));
    const path = join(own, "scratch");
    await promises.writeFile(path, "", { mode: 0o600 });
    await promises.truncate(path, size);
    return await work(path);
  } catch (error) {
    throw fromErrno(`use a scratch file in "${folder}"`, error);
  } finally {
    if (own) rmSync(own, { recursive: true, force: true });
  }
}
