/**
 * A file with holes, or a block device, addressed by byte offset. Reads and writes are whole or they throw.
 * Buffers may be views of a SharedArrayBuffer (guest pages): the kernel reads and writes them in place.
 *
 * Cached data does not pay for the thread pool: a short read first asks the page cache, without waiting, on the calling
 * thread; only what is not there goes to the pool, which keeps the queue depth of a real disk.
 */
import {
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  fsync,
  ftruncateSync,
  openSync,
  read,
  type Stats,
  write,
  writeSync,
} from "node:fs";
import { DiskError, fromErrno } from "../errors.js";
import { blockDeviceSize } from "./block-size.js";
import { DirectAccess } from "./direct.js";
import { findWriter, identityOf } from "./holder.js";
import { allocate, deallocate, type Run, runAt, zeroInPlace } from "./holes.js";
import { type Libc, libc, negative } from "./libc.js";
import type { OpenFile } from "./open-file.js";
import { copyRange, shareAll, shareRange, startWriteback } from "./transfer.js";

export type { OpenFile } from "./open-file.js";

export interface OpenFileOptions {
  readonly writable?: boolean;
  /** Make the file, which must not exist. */
  readonly create?: boolean;
  /** Take a block device from the kernel's other users (mounts, device-mapper); EBUSY otherwise. Default: when writable. */
  readonly exclusive?: boolean;
  /** False: plain Node only, as on systems without koffi. */
  readonly native?: boolean;
}

/** Reads up to this long first ask the page cache on the calling thread; longer ones are worth a pool thread. */
const INLINE_READ = 256 * 1024;
/** Page-aligned writes up to this long go into the page cache on the calling thread. */
const INLINE_WRITE = 64 * 1024;
const PAGE = 4096;
const DONE: Promise<void> = Promise.resolve();

/** Opens a regular file or a block device; anything else (a directory, a pipe) is refused. */
export async function openFile(path: string, options: OpenFileOptions = {}): Promise<OpenFile> {
  const { writable = false, create = false, native = true } = options;
  const what = create ? `create "${path}"` : `open "${path}"${writable ? " for writing" : ""}`;
  // O_NONBLOCK: opening a pipe must fail below, not wait for its other end.
  const access = (writable || create ? constants.O_RDWR : constants.O_RDONLY) | (constants.O_NONBLOCK ?? 0);
  try {
    const fd = openSync(path, access | (create ? constants.O_CREAT | constants.O_EXCL : 0), 0o666);
    const stats = fstatOrClose(fd);
    if (stats.isBlockDevice() && (options.exclusive ?? writable)) {
      closeSync(fd);
      return openedFile(openSync(path, access | constants.O_EXCL), path, writable, { native });
    }
    return openedFile(fd, path, writable || create, { native });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EBUSY") throw deviceInUse(what, path, error);
    if ((error as NodeJS.ErrnoException).code === "ENXIO")
      throw noFile(path, "it is neither a file nor a block device");
    throw fromErrno(what, error);
  }
}

export interface OpenedFileOptions {
  /** As `OpenFileOptions`. */
  readonly native?: boolean;
  /** Bytes that the file is known to have: should it have been cut since, what is lost is an error. Default: what it has now. */
  readonly size?: number;
}

/** An already open descriptor as an `OpenFile`, which owns it from now on. */
export function openedFile(
  fd: number,
  path: string,
  writable: boolean,
  { native = true, size }: OpenedFileOptions = {},
): OpenFile {
  const stats = fstatOrClose(fd);
  if (!stats.isFile() && !stats.isBlockDevice()) {
    closeSync(fd);
    const found = stats.isDirectory() ? "it is a directory" : "it is neither a file nor a block device";
    throw noFile(path, found);
  }
  const calls = native ? libc() : null;
  return new SystemFile(fd, path, writable, stats, calls, size);
}

function noFile(path: string, found: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot open "${path}": ${found}`);
}

/** A block device that is taken exclusively: by a process, or by the kernel itself. */
function deviceInUse(what: string, path: string, cause: unknown): DiskError {
  const identity = identityOf(path);
  const holder = identity === undefined ? null : findWriter(identity);
  const who = holder
    ? `${holder.command} (pid ${holder.pid})`
    : "the kernel (mounted, or part of another device) or another user's process";
  return new DiskError("DENIED", `Cannot ${what}: it is in use by ${who}`, {
    details: { path, pid: holder?.pid ?? null, command: holder?.command ?? null },
    cause,
  });
}

function fstatOrClose(fd: number): Stats {
  try {
    return fstatSync(fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

const NO_RUN = { start: 0, end: 0 };

class SystemFile implements OpenFile {
  readonly fd: number;
  readonly path: string;
  readonly writable: boolean;
  readonly isBlockDevice: boolean;
  readonly identity: string;
  readonly native: Libc | null;
  #size: number;
  #asksCache: boolean;
  #open = true;
  /**
   * Data that was found last. An image asks for its clusters one after the other, and to look for the end of a long run takes
   * long on some file systems. Somebody else's hole in it is taken for data, which costs a read of zeros.
   */
  #dataRun = NO_RUN;
  /** Opened at its first use; null where there is none. */
  #direct: DirectAccess | null | undefined;

  constructor(fd: number, path: string, writable: boolean, stats: Stats, native: Libc | null, size?: number) {
    this.fd = fd;
    this.path = path;
    this.writable = writable;
    this.isBlockDevice = stats.isBlockDevice();
    this.identity = this.isBlockDevice ? `block ${stats.rdev}` : `${stats.dev}:${stats.ino}`;
    this.native = native;
    this.#asksCache = native !== null;
    this.#size = size ?? (this.isBlockDevice ? blockDeviceSize(fd, stats, native, path) : stats.size);
  }

  get size(): number {
    return this.#size;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    if (!this.#asksCache || into.length > INLINE_READ) return this.#readPooled(offset, into, 0);
    const done = this.native!.readCached(this.fd, into, offset);
    if (done === into.length) return DONE;
    if (done === EOPNOTSUPP || done === EINVAL || done === ENOSYS) this.#asksCache = false; // a file system that cannot
    return this.#readPooled(offset, into, Math.max(done, 0));
  }

  async #readPooled(offset: number, into: Uint8Array, from: number): Promise<void> {
    for (let done = from; done < into.length; ) {
      const count = await this.#call(`read "${this.path}"`, (end) =>
        read(this.fd, into, done, into.length - done, offset + done, end),
      );
      if (count === 0)
        throw new DiskError(
          "IO",
          `Cannot read "${this.path}": it ends at byte ${offset + done}, asked for ${offset}..${offset + into.length}`,
        );
      done += count;
    }
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    const whole = offset % PAGE === 0 && data.length % PAGE === 0; // a page that is not there is not read first
    if (!whole || data.length > INLINE_WRITE) return this.#writePooled(offset, data, 0);
    try {
      const done = writeSync(this.fd, data, 0, data.length, offset);
      this.#reached(offset + done);
      return done === data.length ? DONE : this.#writePooled(offset, data, done);
    } catch (error) {
      return Promise.reject(fromErrno(`write "${this.path}"`, error));
    }
  }

  async #writePooled(offset: number, data: Uint8Array, from: number): Promise<void> {
    for (let done = from; done < data.length; ) {
      done += await this.#call(`write "${this.path}"`, (end) =>
        write(this.fd, data, done, data.length - done, offset + done, end),
      );
      this.#reached(offset + done);
    }
  }

  /** Bytes up to `end` exist now. */
  #reached(end: number): void {
    if (end > this.#size && !this.isBlockDevice) this.#size = end;
  }

  async readDirect(offset: number, into: Uint8Array): Promise<boolean> {
    const direct = this.#directFor(offset, into);
    if (!direct) return false;
    const done = await this.#refusable("read", direct.read(offset, into));
    if (done === null) return false;
    if (done < into.length) await this.#readPooled(offset, into, done);
    return true;
  }

  async writeDirect(offset: number, data: Uint8Array): Promise<boolean> {
    const direct = this.#directFor(offset, data);
    if (!direct) return false;
    const done = await this.#refusable("write", direct.write(offset, data));
    if (done === null) return false;
    this.#reached(offset + done);
    if (done < data.length) await this.#writePooled(offset, data, done);
    return true;
  }

  #directFor(offset: number, bytes: Uint8Array): DirectAccess | null {
    if (this.#direct === undefined) this.#direct = DirectAccess.forBulk(this);
    return this.#direct?.suits(offset, bytes) ? this.#direct : null;
  }

  /** Null when the system refuses this way altogether: a device with larger sectors, for one. */
  async #refusable(verb: string, work: Promise<number>): Promise<number | null> {
    try {
      return await work;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EINVAL") return null;
      throw fromErrno(`${verb} "${this.path}"`, error);
    }
  }

  punchHole(offset: number, length: number): Promise<void> {
    this.#dataRun = NO_RUN;
    return this.#told("give back space of", deallocate(this, offset, length));
  }

  zeroRange(offset: number, length: number): Promise<void> {
    this.#dataRun = NO_RUN;
    return this.#told("zero", zeroInPlace(this, offset, length));
  }

  async allocate(offset: number, length: number): Promise<void> {
    await this.#told("reserve space for", allocate(this, offset, length));
    this.#reached(offset + length);
  }

  runAt(offset: number, limit: number): Run {
    const known = this.#dataRun;
    if (offset >= known.start && offset < known.end) return { data: true, end: Math.min(known.end, limit) };
    const run = runAt(this, offset, Math.max(limit, this.#size));
    if (run.data) this.#dataRun = { start: offset, end: run.end };
    return { data: run.data, end: Math.min(run.end, limit) };
  }

  async copyRangeTo(other: OpenFile, offset: number, otherOffset: number, length: number): Promise<number> {
    const count = await this.#told(`copy to "${other.path}" from`, copyRange(this, other, offset, otherOffset, length));
    if (count > 0 && other instanceof SystemFile) other.#reached(otherOffset + count);
    return count;
  }

  async shareRangeWith(other: OpenFile, offset: number, otherOffset: number, length: number): Promise<boolean> {
    const shared = await this.#told(
      `copy to "${other.path}" from`,
      shareRange(this, other, offset, otherOffset, length),
    );
    if (shared && other instanceof SystemFile) other.#reached(otherOffset + length);
    return shared;
  }

  async reflinkTo(other: OpenFile): Promise<boolean> {
    const shared = await this.#told(`copy to "${other.path}" from`, shareAll(this, other));
    if (shared && other instanceof SystemFile) other.#reached(this.#size);
    return shared;
  }

  startWriteback(offset: number, length: number): Promise<void> {
    return startWriteback(this, offset, length);
  }

  async dataSync(): Promise<void> {
    await this.#call(`sync "${this.path}"`, (end) => fdatasync(this.fd, end));
  }

  async sync(): Promise<void> {
    await this.#call(`sync "${this.path}"`, (end) => fsync(this.fd, end));
  }

  async resize(size: number): Promise<void> {
    if (this.isBlockDevice)
      throw new DiskError("UNSUPPORTED", `Cannot resize "${this.path}": it is a block device of ${this.#size} bytes`);
    try {
      ftruncateSync(this.fd, size);
    } catch (error) {
      throw fromErrno(`resize "${this.path}" to ${size} bytes`, error);
    }
    this.#size = size;
    this.#dataRun = NO_RUN;
  }

  allocatedSize(): number {
    return this.isBlockDevice ? this.#size : fstatSync(this.fd).blocks * 512;
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#direct?.close();
    closeSync(this.fd);
  }

  #told<T>(verb: string, work: Promise<T>): Promise<T> {
    return work.catch((error: unknown) => {
      throw fromErrno(`${verb} "${this.path}"`, error);
    });
  }

  #call(what: string, start: (end: (error: Error | null, count?: number) => void) => void): Promise<number> {
    return new Promise((resolve, reject) => {
      start((error, count = 0) => (error ? reject(fromErrno(what, error)) : resolve(count)));
    });
  }
}

const EOPNOTSUPP = negative("EOPNOTSUPP");
const EINVAL = negative("EINVAL");
const ENOSYS = negative("ENOSYS");
