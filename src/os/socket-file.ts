/** The file of a unix socket: whether there is one, who may connect, and its end. Listening and connecting are done where sockets are. */
import { chmod, lstat, rm } from "node:fs/promises";
import { fromErrno } from "../errors.js";

/** What lies at `path`. */
export async function socketFileKind(path: string): Promise<"none" | "socket" | "other"> {
  try {
    return (await lstat(path)).isSocket() ? "socket" : "other";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "none";
    throw fromErrno(`look at ${JSON.stringify(path)}`, error);
  }
}

/** Only the owner may connect. */
export async function restrictSocketFile(path: string): Promise<void> {
  await chmod(path, 0o600).catch((error) => {
    throw fromErrno(`restrict ${JSON.stringify(path)}`, error);
  });
}

/** Not an error when it is gone already. */
export async function removeSocketFile(path: string): Promise<void> {
  await rm(path, { force: true }).catch((error) => {
    throw fromErrno(`remove ${JSON.stringify(path)}`, error);
  });
}
