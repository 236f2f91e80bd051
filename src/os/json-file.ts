/** Small JSON files that are replaced as a whole: after a cut the file holds the old document or the new one. */
import { readFileSync, rmSync } from "node:fs";
import { fromErrno } from "../errors.js";
import { writeTextFile } from "./state-files.js";

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
  writeTextFile(path, `${JSON.stringify(document, null, 2)}\n`);
}

export function removeJsonFile(path: string): void {
  rmSync(path, { force: true });
}
