/** Files and sockets of a daemon, by name. */
import { crc32 } from "../bytes/checksum.js";
import type { XvdPaths } from "../os/xvd-paths.js";

export function controlSocket(paths: XvdPaths): string {
  return `${paths.run}/dom0.sock`;
}

export function xenstoreSocket(paths: XvdPaths): string {
  return `${paths.run}/xenstored/socket`;
}

/** What the running daemon holds; left behind only by one that did not stop in order. One for each XVD_RUN, as there is one daemon. */
export function recordFile(paths: XvdPaths): string {
  return `${paths.home}/dom0-${runId(paths)}.json`;
}

/** What the daemon had to say. */
export function logFile(paths: XvdPaths): string {
  return `${paths.home}/dom0-${runId(paths)}.log`;
}

function runId({ run }: XvdPaths): string {
  return crc32(Buffer.from(run)).toString(16).padStart(8, "0");
}
