/** Waiting for descriptors that Node cannot wait for: poll(2), for a thread that has nothing else to do. */
import { readSync, writeSync } from "node:fs";
import { DiskError, fromErrno } from "../errors.js";
import { errnoError, type NativeLibrary, nativeLibrary } from "./libc.js";

const POLLIN = 0x0001;
const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

/** Blocks this thread until one of the descriptors can be read, is at its end or has failed, or until the time is over. */
export interface Poll {
  /** Which of the descriptors: true at its place. All false after `timeoutMs` or a signal. */
  wait(timeoutMs: number): boolean[];
}

export function pollOf(fds: readonly number[]): Poll {
  const native = requireNative("poll");
  const poll = native.declare("poll", "int", "void *", "ulong", "int");
  const words = new Int16Array(fds.length * 4); // struct pollfd: int fd, short events, short revents
  const numbers = new Int32Array(words.buffer);
  for (const [i, fd] of fds.entries()) {
    numbers[i * 2] = fd;
    words[i * 4 + 2] = POLLIN;
  }
  return {
    wait(timeoutMs) {
      const ready = native.answer(poll(words, fds.length, timeoutMs)) > 0;
      return fds.map((_, i) => ready && words[i * 4 + 3] !== 0);
    },
  };
}

/** A descriptor that becomes readable when another thread says so. */
export function makeEventDescriptor(): number {
  const native = requireNative("eventfd");
  const fd = native.answer(native.declare("eventfd", "int", "uint", "int")(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (fd < 0) throw fromErrno("make an event descriptor", errnoError(fd, "eventfd"));
  return fd;
}

export function raiseEvent(fd: number): void {
  writeSync(fd, BigUint64Array.of(1n));
}

export function closeEventDescriptor(fd: number): void {
  requireNative("eventfd").close(fd);
}

/** Writers of some files, seen when they close them (inotify). */
export interface CloseWatch {
  /** Readable when there is something to take. */
  readonly fd: number;
  /** Tells from now on when somebody who has `path` open for writing closes it. */
  add(path: string): void;
  close(): void;
}

const IN_CLOSE_WRITE = 0x8;
const IN_NONBLOCK_CLOEXEC = EFD_CLOEXEC | EFD_NONBLOCK;

export function watchWriters(): CloseWatch {
  const native = requireNative("inotify");
  const fd = native.answer(native.declare("inotify_init1", "int", "int")(IN_NONBLOCK_CLOEXEC));
  if (fd < 0) throw fromErrno("watch device nodes", errnoError(fd, "inotify_init1"));
  const add = native.declare("inotify_add_watch", "int", "int", "str", "uint");
  return {
    fd,
    add(path) {
      const watch = native.answer(add(fd, path, IN_CLOSE_WRITE));
      if (watch < 0) throw fromErrno(`watch "${path}"`, errnoError(watch, "inotify_add_watch"));
    },
    close: () => native.close(fd),
  };
}

/** Takes what waits in a descriptor that does not block; true when there was something. */
export function drain(fd: number): boolean {
  const bytes = new Uint8Array(4096);
  try {
    return readSync(fd, bytes) > 0;
  } catch {
    return false; // EAGAIN
  }
}

function requireNative(call: string): NativeLibrary {
  const native = nativeLibrary();
  if (!native) throw new DiskError("UNSUPPORTED", `Cannot use ${call}: native calls are not available on this system`);
  return native;
}
