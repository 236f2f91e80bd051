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
import { allocate, deallocate, type Run, runAt, zeroInPlace } from "./holes.js";
import { type Libc, libc, negative } from "./libc.js";
import { copyRange, shareAll, startWriteback } from "./transfer.js";

export interface OpenFileOptions {
  readonly writable?: boolean;
  /** Make the file, which must not exist. */
  readonly create?: boolean;
  /** Take a block device from the kernel's other users (mounts, device-mapper); EBUSY otherwise. Default: when writable. */
  readonly exclusive?: boolean;
  /** False: plain Node only, as on systems without koffi. */
  readonly native?: boolean;
}

export interface OpenFile {
  readonly path: string;
  readonly fd: number;
  /** Bytes, as of opening or the last `resize` or growing `write`. */
  readonly size: number;
  readonly isBlockDevice: boolean;
  readonly writable: boolean;
  /** Device and inode: two files with the same identity are one. */
  readonly identity: string;
  /** The calls Node lacks, or null. */
  readonly native: Libc | null;
  /** Fills all of `into`; past the end it fails with `IO`. */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** Grows the file where needed. */
  write(offset: number, data: Uint8Array): Promise<void>;
  /** The range reads as zeros and its space is given back where the file system can; never grows the file. */
  punchHole(offset: number, length: number): Promise<void>;
  /** The range reads as zeros and keeps its space. */
  zeroRange(offset: number, length: number): Promise<void>;
  /** Reserves space, so that later writes cannot run out of it; grows the file. Contents stay. */
  allocate(offset: number, length: number): Promise<void>;
  /** What the bytes from `offset` on are, up to `end`, which is at most `limit`. All data where the system cannot tell. */
  runAt(offset: number, limit: number): Run;
  /** Copies inside the kernel and returns how many bytes it did: 0 where it cannot. May be fewer than asked. */
  copyRangeTo(other: OpenFile, offset: number, otherOffset: number, length: number): Promise<number>;
  /** Makes `other` share all of this file's blocks; false where the file system cannot. */
  reflinkTo(other: OpenFile): Promise<boolean>;
  /** Asks the kernel to begin writing the range to the disk; a hint. */
  startWriteback(offset: number, length: number): Promise<void>;
  /** Contents and size are on stable storage. */
  dataSync(): Promise<void>;
  /** The same with all metadata. */
  sync(): Promise<void>;
  resize(size: number): Promise<void>;
  /** Bytes that the file takes on its file system. */
  allocatedSize(): number;
  /** Idempotent. */
  close(): Promise<void>;
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
  const verb = create ? "create" : writable ? "open for writing" : "open";
  // O_NONBLOCK: opening a pipe must fail below, not wait for its other end.
  const access = (writable || create ? constants.O_RDWR : constants.O_RDONLY) | (constants.O_NONBLOCK ?? 0);
  try {
    const fd = openSync(path, access | (create ? constants.O_CREAT | constants.O_EXCL : 0), 0o666);
    const stats = fstatOrClose(fd);
    if (stats.isBlockDevice() && (options.exclusive ?? writable)) {
      closeSync(fd);
      return openedFile(openSync(path, access | constants.O_EXCL), path, writable, native);
    }
    return openedFile(fd, path, writable || create, native);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EBUSY")
      throw new DiskError(
        "DENIED",
        `Cannot ${verb} "${path}": it is in use by the kernel (mounted, or part of another device)`,
        { cause: error },
      );
    throw fromErrno(`${verb} "${path}"`, error);
  }
}

/** An already open descriptor as an `OpenFile`, which owns it from now on. */
export function openedFile(fd: number, path: string, writable: boolean, native = true): OpenFile {
  const stats = fstatOrClose(fd);
  if (!stats.isFile() && !stats.isBlockDevice()) {
    closeSync(fd);
    const found = stats.isDirectory() ? "it is a directory" : "it is neither a file nor a block device";
    throw new DiskError("UNSUPPORTED", `Cannot open "${path}": ${found}`);
  }
  const calls = native ? libc() : null;
  return new SystemFile(fd, path, writable, stats, calls);
}

function fstatOrClose(fd: number): Stats {
  try {
    return fstatSync(fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

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

  constructor(fd: number, path: string, writable: boolean, stats: Stats, native: Libc | null) {
    this.fd = fd;
    this.path = path;
    this.writable = writable;
    this.isBlockDevice = stats.isBlockDevice();
    this.identity = this.isBlockDevice ? `block ${stats.rdev}` : `${stats.dev}:${stats.ino}`;
    this.native = native;
    this.#asksCache = native !== null;
    this.#size = this.isBlockDevice ? blockDeviceSize(fd, stats, native, path) : stats.size;
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

  punchHole(offset: number, length: number): Promise<void> {
    return this.#told("give back space of", deallocate(this, offset, length));
  }

  zeroRange(offset: number, length: number): Promise<void> {
    return this.#told("zero", zeroInPlace(this, offset, length));
  }

  async allocate(offset: number, length: number): Promise<void> {
    await this.#told("reserve space for", allocate(this, offset, length));
    this.#reached(offset + length);
  }

  runAt(offset: number, limit: number): Run {
    return runAt(this, offset, limit);
  }

  async copyRangeTo(other: OpenFile, offset: number, otherOffset: number, length: number): Promise<number> {
    const count = await this.#told(`copy to "${other.path}" from`, copyRange(this, other, offset, otherOffset, length));
    if (count > 0 && other instanceof SystemFile) other.#reached(otherOffset + count);
    return count;
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
  }

  allocatedSize(): number {
    return this.isBlockDevice ? this.#size : fstatSync(this.fd).blocks * 512;
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
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
