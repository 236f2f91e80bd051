/** Files and sockets of a daemon, by name. */
import type { XvdPaths } from "../os/xvd-paths.js";

export function controlSocket(paths: XvdPaths): string {
  return `${paths.run}/dom0.sock`;
}

export function xenstoreSocket(paths: XvdPaths): string {
  return `${paths.run}/xenstored/socket`;
}

/** What the running daemon holds; left behind only by one that did not stop in order. */
export function recordFile(paths: XvdPaths): string {
  return `${paths.home}/dom0.json`;
}

/** What the daemon had to say. */
export function logFile(paths: XvdPaths): string {
  return `${paths.home}/dom0.log`;
}
