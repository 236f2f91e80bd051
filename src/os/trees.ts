/** Folders of our own: made for their owner alone, measured, removed. By fs-extra, which takes 20 ms to load: import this file where it is needed. */
import { mkdtempSync, readdirSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureDirSync, removeSync } from "fs-extra/esm";
import { fromErrno } from "../errors.js";

/** Makes a folder, and those above it, for its owner alone. Not an error when it is there. */
export function ensurePrivateDir(path: string): void {
  try {
    ensureDirSync(path, { mode: 0o700 });
  } catch (error) {
    throw fromErrno(`make the folder ${JSON.stringify(path)}`, error);
  }
}

/** Removes a file, a socket, or a folder with all that is in it. Not an error when it is gone already. */
export function removeTree(path: string): void {
  try {
    removeSync(path);
  } catch (error) {
    throw fromErrno(`remove ${JSON.stringify(path)}`, error);
  }
}

/** A new empty folder below the system's temporary one. */
export function scratchFolder(prefix: string): string {
  return mkdtempSync(join(tmpdir(), prefix));
}

export interface TreeSize {
  readonly files: number;
  readonly bytes: number;
}

/** Counts the regular files of a tree, links not followed, up to `limit` of them; null when it cannot be read. */
export function treeSize(path: string, limit: number): TreeSize | null {
  try {
    const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    if (files.length > limit) return null;
    const bytes = files.reduce((sum, file) => sum + statSync(join(file.parentPath, file.name)).size, 0);
    return { files: files.length, bytes };
  } catch {
    return null;
  }
}
