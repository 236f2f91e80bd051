/**
 * Locks on image files across processes, the same that QEMU takes (its documentation, "image locking"), so that it
 * refuses what we write and we refuse what it holds. Open-file-description locks, each on one byte, all of them read locks:
 *
 *     byte 100 + bit   "I use this permission"            byte 200 + bit   "I do not share this permission"
 *
 * First all own bytes are locked, then the opposite bytes are tested for others' locks. A cut between leaves nothing:
 * the kernel drops the locks with the descriptor. Where the system has no such locks, files in a folder say the same.
 */
import { DiskError } from "../errors.js";
import { findHolder, type Holder } from "./holder.js";
import { errnoError, F_RDLCK, F_UNLCK, F_WRLCK, type Libc } from "./libc.js";
import { lockByFile } from "./lock-files.js";
import { BYTES, type LockMode, PERMISSION_BASE, RESIZE, UNSHARED_BASE } from "./lock-modes.js";
import type { OpenFile } from "./open-file.js";

export type { LockMode } from "./lock-modes.js";

export interface LockOptions {
  /** What the lock is for, in the error's text; default `open "PATH"` or `open "PATH" for writing`. */
  readonly purpose?: string;
  /** Folder for lock files where they stand in. */
  readonly directory?: string;
}

export interface FileLock {
  /** Idempotent. Closing the file releases as well, except where lock files stand in. */
  release(): void;
}

/** What a process may take to give its locks back at its end. */
const ENDING_MS = 20;

/** Locks an open file or throws `DENIED`, naming who holds it. */
export function lockFile(file: OpenFile, mode: LockMode, options: LockOptions = {}): FileLock {
  const purpose = options.purpose ?? `open "${file.path}"${mode.endsWith("write") ? " for writing" : ""}`;
  let conflict = file.native ? lockBytes(file.native, file.fd, mode) : "unsupported";
  let holder: Holder | null = null;
  if (typeof conflict === "number") {
    unlockBytes(file);
    holder = findHolder(file, conflict);
    if (!holder) conflict = lockAgain(file, mode);
  }
  if (conflict === null) return { release: () => unlockBytes(file) };
  if (conflict === "unsupported") {
    const taken = lockByFile(file.identity, mode, options.directory);
    if ("release" in taken) return taken;
    throw inUse(purpose, file.path, mode, taken);
  }
  throw inUse(purpose, file.path, mode, holder ?? findHolder(file, conflict));
}

/** Who cannot be seen may just be ending: its descriptors leave /proc a moment before its locks go. */
function lockAgain(file: OpenFile, mode: LockMode): number | "unsupported" | null {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ENDING_MS);
  const conflict = lockBytes(file.native!, file.fd, mode);
  if (typeof conflict === "number") unlockBytes(file);
  return conflict;
}

/** Null when locked; the byte at which somebody else is in the way; or that the file system has no locks. */
function lockBytes(native: Libc, fd: number, mode: LockMode): number | "unsupported" | null {
  const { uses, keeps } = BYTES[mode];
  const own = [...uses.map((bit) => PERMISSION_BASE + bit), ...keeps.map((bit) => UNSHARED_BASE + bit)];
  for (const byte of own) if (native.setLock(fd, F_RDLCK, byte, 1) < 0) return "unsupported";
  const others = [...uses.map((bit) => UNSHARED_BASE + bit), ...keeps.map((bit) => PERMISSION_BASE + bit)];
  for (const byte of others) {
    const found = native.testLock(fd, F_WRLCK, byte, 1);
    if (found < 0) throw errnoError(found, "fcntl F_OFD_GETLK");
    if (found > 0) return byte;
  }
  return null;
}

function unlockBytes(file: OpenFile): void {
  file.native?.setLock(file.fd, F_UNLCK, PERMISSION_BASE, UNSHARED_BASE - PERMISSION_BASE + RESIZE + 1);
}

function inUse(purpose: string, path: string, mode: LockMode, holder: Holder | null): DiskError {
  const who = holder ? `${holder.command} (pid ${holder.pid})` : "another process";
  const allowed = mode.endsWith("read") ? ", allowed with --force-share" : "";
  return new DiskError("DENIED", `Cannot ${purpose}: it is in use by ${who}${allowed}`, {
    details: { path, locked: true, pid: holder?.pid ?? null, command: holder?.command ?? null },
  });
}
