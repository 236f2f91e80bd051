/** Who holds a lock on a file, or has a device open: found in /proc, where each descriptor's locks are listed (proc(5), /proc/pid/fdinfo). Linux only. */
import { constants, readdirSync, readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import type { OpenFile } from "./open-file.js";
import { ownPid } from "./this-process.js";

/** O_RDONLY, O_WRONLY or O_RDWR within the flags of an open file. */
const ACCESS_MODE = 3;

export interface Holder {
  readonly pid: number;
  /** The program's name; `xvd dom0` for our own commands. */
  readonly command: string;
}

/** `1: OFDLCK ADVISORY READ -1 fe:00:1234 100 103`: the inode, the first and the last byte. */
const LOCK_LINE = /^lock:\s+\d+: \S+\s+\S+\s+\S+ -?\d+ [0-9a-f]+:[0-9a-f]+:(\d+) (\d+) (\d+|EOF)$/gm;

/** The process with a lock on `byte` of the file, other than through `file` itself; null when it cannot be seen. */
export function findHolder(file: OpenFile, byte: number): Holder | null {
  const inode = statOrNull(`/proc/self/fd/${file.fd}`)?.ino;
  if (inode === undefined) return null;
  for (const pid of numbersIn("/proc")) {
    for (const fd of numbersIn(`/proc/${pid}/fdinfo`)) {
      if (pid === ownPid && fd === file.fd) continue;
      if (!locks(readOrEmpty(`/proc/${pid}/fdinfo/${fd}`), inode, byte)) continue;
      if (identityOf(`/proc/${pid}/fd/${fd}`) === file.identity) return { pid, command: commandOf(pid) };
    }
  }
  return null;
}

/** Another process that has the file or device of this identity (as of `OpenFile`) open for writing; null when none can be seen. */
export function findWriter(identity: string): Holder | null {
  for (const pid of numbersIn("/proc")) {
    if (pid === ownPid) continue;
    for (const fd of numbersIn(`/proc/${pid}/fd`)) {
      if (identityOf(`/proc/${pid}/fd/${fd}`) !== identity) continue;
      const [, flags] = /^flags:\s+([0-7]+)$/m.exec(readOrEmpty(`/proc/${pid}/fdinfo/${fd}`)) ?? [];
      if (flags && (Number.parseInt(flags, 8) & ACCESS_MODE) !== constants.O_RDONLY)
        return { pid, command: commandOf(pid) };
    }
  }
  return null;
}

/** What a process calls itself: `xvd VERB` for this program under Node, else the program's name. */
export function commandOf(pid: number): string {
  const words = readOrEmpty(`/proc/${pid}/cmdline`).split("\0").filter(Boolean);
  const script = words.findIndex((word, i) => i < 8 && /^xvd(\.js)?$/.test(basename(word)));
  if (script >= 0) {
    const verb = words.slice(script + 1).find((word) => !word.startsWith("-"));
    return verb ? `xvd ${verb}` : "xvd";
  }
  return (words[0] && basename(words[0])) || readOrEmpty(`/proc/${pid}/comm`).trim() || "a process";
}

function locks(fdinfo: string, inode: number, byte: number): boolean {
  for (const [, ino, first, last] of fdinfo.matchAll(LOCK_LINE)) {
    if (Number(ino) === inode && Number(first) <= byte && (last === "EOF" || byte <= Number(last))) return true;
  }
  return false;
}

export function identityOf(path: string): string | undefined {
  const stats = statOrNull(path);
  return stats && (stats.isBlockDevice() ? `block ${stats.rdev}` : `${stats.dev}:${stats.ino}`);
}

function statOrNull(path: string) {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function numbersIn(folder: string): number[] {
  try {
    return readdirSync(folder).map(Number).filter(Number.isInteger);
  } catch {
    return []; // ended meanwhile, or another user's
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
