/**
 * Locks where the system has none for open files: one small file per lock in a common folder, named
 * `<device>-<inode>.<pid>.<count>.<mode>` and holding its owner's start time. As with the byte locks each side first
 * puts up its own sign and then looks at the others', so that of two at once at most one goes on.
 * A sign whose process has ended is removed by whoever meets it. Seen only by xvdkit itself, not by QEMU.
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromErrno } from "../errors.js";
import { commandOf, type Holder } from "./holder.js";
import type { FileLock } from "./lock.js";
import { exclude, type LockMode } from "./lock-modes.js";
import { isRunning, ownPid } from "./this-process.js";

const SIGN = /^(?<key>[0-9a-z-]+)\.(?<pid>\d+)\.\d+\.(?<mode>(?:part-)?(?:read|write))$/i;

/** The lock, or who is in the way. `directory`: the common folder, by default in the system's one for temporary files. */
export function lockByFile(
  identity: string,
  mode: LockMode,
  directory = join(tmpdir(), "xvdkit-locks"),
): FileLock | Holder {
  const key = identity.replaceAll(/[^0-9a-z]/gi, "-");
  const own = putSign(directory, key, mode);
  const holder = findOther(directory, key, mode, own);
  if (!holder) return { release: () => rmSync(join(directory, own), { force: true }) };
  rmSync(join(directory, own), { force: true });
  return holder;
}

function putSign(directory: string, key: string, mode: LockMode): string {
  try {
    makeCommonFolder(directory);
    for (let count = 0; ; count++) {
      const name = `${key}.${ownPid}.${count}.${mode}`;
      try {
        writeFileSync(join(directory, name), startTime(ownPid), { flag: "wx" });
        return name;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error; // another lock of this process, or of one long gone
      }
    }
  } catch (error) {
    throw fromErrno(`lock files in "${directory}"`, error);
  }
}

/** Everybody may add a sign, nobody may remove another user's (as /tmp itself). */
function makeCommonFolder(directory: string): void {
  const made = mkdirSync(directory, { recursive: true });
  if (made !== undefined) chmodSync(directory, 0o1777);
}

/** Removes the signs of the dead on its way, also those of other files. */
function findOther(directory: string, key: string, mode: LockMode, own: string): Holder | null {
  let holder: Holder | null = null;
  for (const name of readdirSync(directory)) {
    const sign = SIGN.exec(name)?.groups;
    if (!sign || name === own) continue;
    const pid = Number(sign.pid);
    if (!isAlive(pid, join(directory, name))) removeSign(join(directory, name));
    else if (sign.key === key && exclude(mode, sign.mode as LockMode)) holder ??= { pid, command: commandOf(pid) };
  }
  return holder;
}

function removeSign(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // another user's; it does not count, wherever it stays
  }
}

/** Whether the process that put up the sign still runs: the pid lives and has not been given to another one since. */
function isAlive(pid: number, sign: string): boolean {
  if (!isRunning(pid)) return false;
  try {
    const then = readFileSync(sign, "utf8");
    const now = startTime(pid);
    return then === "" || now === "" || then === now;
  } catch {
    return false; // released while we looked
  }
}

/** Clock ticks from boot to the start of the process (proc(5), field 22 of stat); empty where there is no /proc. */
function startTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}
