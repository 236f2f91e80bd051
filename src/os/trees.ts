/** Folders of our own: made for their owner alone, measured, removed. By fs-extra, which takes 20 ms to load: import this file where it is needed. */
import { mkdtempSync, readdirSync, type Stats, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureDirSync, removeSync } from "fs-extra/esm";
import { DiskError, fromErrno } from "../errors.js";
import { ownUid } from "./this-process.js";

/**
 * Makes a folder, and those above it, for its owner alone. Not an error when it is there and nobody else can write to it:
 * whoever could, would choose which sockets our commands talk to. Throws `DENIED` then.
 */
export function ensurePrivateDir(path: string): void {
  let stats: Stats;
  try {
    ensureDirSync(path, { mode: 0o700 });
    stats = statSync(path);
  } catch (error) {
    throw fromErrno(`make the folder ${JSON.stringify(path)}`, error);
  }
  const uid = ownUid();
  if (uid === undefined) return;
  if (stats.uid !== uid) throw unsafe(path, `it belongs to user ${stats.uid}, allowed is your own (${uid})`);
  if (stats.mode & 0o002) throw unsafe(path, "everybody may write to it, allowed is its owner alone");
}

function unsafe(path: string, why: string): DiskError {
  return new DiskError("DENIED", `Cannot use the folder ${JSON.stringify(path)}: ${why}`, { details: { path } });
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
