/**
 * The tools of other projects that judge ours (sfdisk, qemu-img, nbdkit ...). A missing one is a skip with its reason,
 * or a failure with XVD_REQUIRE_PEERS=1; `test/support/install-peers.sh` installs them all.
 */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

// Debian keeps sfdisk and its like out of a user's PATH; tests call them by name.
const SYSTEM_FOLDERS = ["/usr/sbin", "/sbin"];
const folders = [...new Set([...(process.env.PATH ?? "").split(delimiter).filter(Boolean), ...SYSTEM_FOLDERS])];
process.env.PATH = folders.join(delimiter);

const reported = new Set<string>();

/** The full path of a program, or undefined when no folder of PATH has it. */
export function peerPath(name: string): string | undefined {
  return folders.map((folder) => join(folder, name)).find(isProgram);
}

/**
 * Whether every one of the programs is there: `describe.skipIf(!havePeer("sfdisk"))`.
 * Says once which are missing; throws instead when XVD_REQUIRE_PEERS=1.
 */
export function havePeer(...names: readonly string[]): boolean {
  const missing = names.filter((name) => peerPath(name) === undefined);
  if (missing.length === 0) return true;
  return missingPeer(missing.join(", "));
}

/** The same for what is no program: `present` tells whether `what` is there. */
export function requirePeer(what: string, present: boolean): boolean {
  return present || missingPeer(what);
}

function missingPeer(what: string): false {
  const reason = `${what} not found; test/support/install-peers.sh installs the peers`;
  if (process.env.XVD_REQUIRE_PEERS === "1") throw new Error(`XVD_REQUIRE_PEERS=1, and ${reason}`);
  if (!reported.has(reason)) process.stderr.write(`skipped: ${reason}\n`);
  reported.add(reason);
  return false;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
