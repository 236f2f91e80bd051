/** Files and sockets of a daemon, by name. */
import { crc32 } from "../bytes/checksum.js";
import { DiskError } from "../errors.js";
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

/** The nodes of kernel devices that the running daemon has made; like the record. */
export function kernelRecordFile(paths: XvdPaths): string {
  return `${paths.home}/kernel-${runId(paths)}.json`;
}

/** What the daemon had to say. */
export function logFile(paths: XvdPaths): string {
  return `${paths.home}/dom0-${runId(paths)}.log`;
}

export function domainDir(paths: XvdPaths, domain: string): string {
  return `${paths.run}/domains/${domain}`;
}

/** Of sockaddr_un, without its final zero. */
const MAX_SOCKET_PATH = 107;

/** The folder of a domain's disks. Throws `UNSUPPORTED` when the system could not name a socket in it. */
export function domainSockets(paths: XvdPaths, domain: string): string {
  const folder = `${domainDir(paths, domain)}/dev`;
  const longest = Buffer.byteLength(`${folder}/xvdaaa15`);
  if (longest <= MAX_SOCKET_PATH) return folder;
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot create domain ${domain}: its sockets' paths below ${folder} would have ${longest} bytes, allowed ${MAX_SOCKET_PATH}; set XVD_RUN to a shorter path`,
  );
}

/** Tells the daemon of this XVD_RUN from others. */
export function runId({ run }: XvdPaths): string {
  return crc32(Buffer.from(run)).toString(16).padStart(8, "0");
}
