/**
 * Reads and writes past the page cache (O_DIRECT): they cost no pages, displace nothing, and a sync afterwards finds
 * nothing to do. Through io_uring, or Node's thread pool where there is none; both keep a disk's queue full.
 */
import { closeSync, constants, openSync, read, statfsSync, write } from "node:fs";
import { DiskError, fromErrno } from "../errors.js";
import { type IoRing, ioRing } from "./io-ring.js";
import { errnoError, type Libc } from "./libc.js";
import type { OpenFile } from "./open-file.js";
import { pageMemory } from "./page-memory.js";

/** Offsets, lengths and memory that are multiples of it suit every file system and device. */
export const DIRECT_UNIT = 4096;

/** ext2 to ext4, XFS, btrfs, F2FS, by their magic numbers in statfs(2). A remote one would copy on its server instead. */
const FILE_SYSTEMS = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

/** Zeros in memory that suits direct access. */
export function alignedBuffer(size: number): Uint8Array {
  return new Uint8Array(pageMemory(size));
}

export interface DirectOptions {
  /** False: through the thread pool even where there is a ring. */
  readonly ring?: boolean;
  /** Bytes, instead of what the system says. */
  readonly unit?: number;
}

/** A second way to an open file, past the cache. */
export class DirectAccess {
  /** Offsets and lengths must be multiples of it, in bytes. */
  readonly unit: number;
  readonly #memoryUnit: number;
  readonly #fd: number;
  readonly #native: Libc | null;
  readonly #ring: IoRing | null;

  private constructor(fd: number, native: Libc | null, options: DirectOptions) {
    const units = native?.directUnits(fd);
    this.#fd = fd;
    this.#native = native;
    this.unit = options.unit ?? units?.offset ?? DIRECT_UNIT;
    this.#memoryUnit = Math.max(units?.memory ?? DIRECT_UNIT, 1);
    this.#ring = native && options.ring !== false ? ioRing() : null;
  }

  /** For bulk work whose bytes go to the disk anyway. Null where that is no gain, or cannot be had. */
  static forBulk(file: OpenFile): DirectAccess | null {
    if (!file.native || file.isBlockDevice) return null;
    try {
      if (!FILE_SYSTEMS.includes(statfsSync(pathOf(file)).type >>> 0)) return null;
      return new DirectAccess(openDirect(file), file.native, {});
    } catch {
      return null;
    }
  }

  /** For a file that is to be used in this way. Throws `UNSUPPORTED` where it cannot be. */
  static open(file: OpenFile, options: DirectOptions = {}): DirectAccess {
    try {
      return new DirectAccess(openDirect(file), file.native, options);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw fromErrno(`open "${file.path}"`, error);
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot open "${file.path}" for direct access: its file system has none (O_DIRECT), allowed is access through the cache`,
        { cause: error },
      );
    }
  }

  suits(offset: number, bytes: Uint8Array): boolean {
    return (
      offset % this.unit === 0 &&
      bytes.length % this.unit === 0 &&
      this.#native !== null &&
      this.#native.address(bytes) % this.#memoryUnit === 0
    );
  }

  /** Bytes done, which may be fewer. Rejects with the system's error. */
  read(offset: number, into: Uint8Array): Promise<number> {
    if (this.#ring) return counted("read", this.#ring.read(this.#fd, offset, into));
    return pooled((end) => read(this.#fd, into, 0, into.length, offset, end));
  }

  /** Bytes done, which may be fewer. Rejects with the system's error. */
  write(offset: number, data: Uint8Array): Promise<number> {
    if (this.#ring) return counted("write", this.#ring.write(this.#fd, offset, data));
    return pooled((end) => write(this.#fd, data, 0, data.length, offset, end));
  }

  /** Nothing may be under way. */
  close(): void {
    closeSync(this.#fd);
  }
}

async function counted(call: string, work: Promise<number>): Promise<number> {
  const result = await work;
  if (result < 0) throw errnoError(result, call);
  return result;
}

function pooled(start: (end: (error: Error | null, count: number) => void) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    start((error, count) => (error ? reject(error) : resolve(count)));
  });
}

function openDirect(file: OpenFile): number {
  return openSync(pathOf(file), (file.writable ? constants.O_RDWR : constants.O_RDONLY) | constants.O_DIRECT);
}

/** Also of a file that has no name. */
function pathOf(file: OpenFile): string {
  return `/proc/self/fd/${file.fd}`;
}
