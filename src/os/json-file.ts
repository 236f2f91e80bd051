/** Small JSON files that are replaced as a whole: after a cut the file holds the old document or the new one. */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fromErrno } from "../errors.js";

/** The document, or null when there is no file or it is no JSON. */
export function readJsonFile(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code;
    if (errno === "ENOENT" || error instanceof SyntaxError) return null;
    throw fromErrno(`read ${JSON.stringify(path)}`, error);
  }
}

/** Written beside, synced, renamed, directory synced. */
export function writeJsonFile(path: string, document: unknown): void {
  const beside = `${path}.new`;
  try {
    const fd = openSync(beside, "w", 0o600);
    try {
      writeFileSync(fd, `${JSON.stringify(document, null, 2)}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(beside, path);
    const dir = openSync(dirname(path), "r");
    try {
      fsyncSync(dir);
    } finally {
      closeSync(dir);
    }
  } catch (error) {
    throw fromErrno(`write ${JSON.stringify(path)}`, error);
  }
}

export function removeJsonFile(path: string): void {
  rmSync(path, { force: true });
}
