/** Small text files that are replaced as a whole: after a cut the file holds the old text or the new one. */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fromErrno } from "../errors.js";

/** Null when there is no such file. Bytes are Latin-1: they go back as they were. */
export function readTextFile(path: string): string | null {
  try {
    return readFileSync(path, "latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw fromErrno(`read ${JSON.stringify(path)}`, error);
  }
}

/** Written beside, synced, renamed, directory synced; for its owner alone. */
export function writeTextFile(path: string, text: string, encoding: "utf8" | "latin1" = "utf8"): void {
  const beside = `${path}.new`;
  try {
    const fd = openSync(beside, "w", 0o600);
    try {
      writeFileSync(fd, text, encoding);
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

/** A folder for its owner alone, with those above it. */
export function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fromErrno(`make the folder ${JSON.stringify(path)}`, error);
  }
}

export interface FolderFile {
  readonly name: string;
  /** Milliseconds since 1970 of its last change. */
  readonly changed: number;
}

/** The files of a folder, by name; none when there is no such folder. */
export function filesIn(folder: string): FolderFile[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
    return entries
      .map(({ name }) => ({ name, changed: statSync(join(folder, name), { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw fromErrno(`list ${JSON.stringify(folder)}`, error);
  }
}

/** Not an error when it is gone already. */
export function removeFile(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    throw fromErrno(`remove ${JSON.stringify(path)}`, error);
  }
}
