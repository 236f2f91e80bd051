/** What an open file can do. `file.ts` opens them; `holes.ts`, `transfer.ts` and `direct.ts` hold the parts. */
import type { Run } from "./holes.js";
import type { Libc } from "./libc.js";

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
  /**
   * The same past the page cache. False, and nothing done, where file system, alignment (4096) or memory
   * (`alignedBuffer`) do not allow it.
   */
  readDirect(offset: number, into: Uint8Array): Promise<boolean>;
  writeDirect(offset: number, data: Uint8Array): Promise<boolean>;
  /** Makes a range of `other` share this file's blocks; false where the file system cannot. */
  shareRangeWith(other: OpenFile, offset: number, otherOffset: number, length: number): Promise<boolean>;
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
