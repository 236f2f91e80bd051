/** Removing what the daemon itself has made: files, sockets, folders of sockets. Not an error when it is gone already. */
import { rmSync } from "node:fs";
import { fromErrno } from "../errors.js";

export function removeTree(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    throw fromErrno(`remove ${JSON.stringify(path)}`, error);
  }
}
