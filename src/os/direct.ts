/**
 * Reads and writes past the page cache (O_DIRECT), for bulk work whose bytes go to the disk anyway: they cost no pages,
 * displace nothing, and the sync afterwards finds nothing to do. Linux, on local file systems that are known to take it.
 */
import { closeSync, constants, openSync, read, statfsSync, write } from "node:fs";
import { type Libc, libc } from "./libc.js";

/** Offsets, lengths and memory are multiples of it. */
export const DIRECT_UNIT = 4096;

/** ext2 to ext4, XFS, btrfs, F2FS, by their magic numbers in statfs(2). A remote one would copy on its server instead. */
const FILE_SYSTEMS = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

/** Zeros in memory that suits direct access where there is any; elsewhere a plain buffer. */
export function alignedBuffer(size: number): Uint8Array<ArrayBuffer> {
  const calls = libc();
  if (!calls) return new Uint8Array(size);
  const space = new Uint8Array(size + DIRECT_UNIT);
  const past = calls.address(space) % DIRECT_UNIT;
  return space.subarray(past === 0 ? 0 : DIRECT_UNIT - past).subarray(0, size);
}

/** A second way to an open file, past the cache. */
export class DirectAccess {
  readonly #fd: number;
  readonly #native: Libc;

  private constructor(fd: number, native: Libc) {
    this.#fd = fd;
    this.#native = native;
  }

  /** Null where the file cannot be had in this way. */
  static open(fd: number, writable: boolean, native: Libc): DirectAccess | null {
    const path = `/proc/self/fd/${fd}`; // also of a file that has no name
    try {
      if (!FILE_SYSTEMS.includes(statfsSync(path).type >>> 0)) return null;
      return new DirectAccess(
        openSync(path, (writable ? constants.O_RDWR : constants.O_RDONLY) | constants.O_DIRECT),
        native,
      );
    } catch {
      return null;
    }
  }

  suits(offset: number, bytes: Uint8Array): boolean {
    return (
      offset % DIRECT_UNIT === 0 && bytes.length % DIRECT_UNIT === 0 && this.#native.address(bytes) % DIRECT_UNIT === 0
    );
  }

  /** Bytes done, which may be fewer. */
  read(offset: number, into: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      read(this.#fd, into, 0, into.length, offset, (error, count) => (error ? reject(error) : resolve(count)));
    });
  }

  /** Bytes done, which may be fewer. */
  write(offset: number, data: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      write(this.#fd, data, 0, data.length, offset, (error, count) => (error ? reject(error) : resolve(count)));
    });
  }

  close(): void {
    closeSync(this.#fd);
  }
}
