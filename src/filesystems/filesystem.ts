/**
 * What is known of a file system from its superblock, and what a driver for one kind of file system supplies.
 * Nothing here mounts, walks or repairs: superblocks only. Names and text forms are those of `blkid`.
 */
import type { BlockDevice } from "../block/device.js";

export interface Filesystem {
  /** As `blkid` names it: `ext4`, `vfat`, `xfs`, `swap`, `LVM2_member`. */
  readonly type: string;
  readonly label: string | null;
  /** As `blkid` prints it; FAT and NTFS have serial numbers instead of UUIDs. */
  readonly uuid: string | null;
  /** Of the on-disk format, where there are several: `FAT16`, `1.0`. */
  readonly version: string | null;
  /** Bytes that the file system says it has; null when its superblock does not tell. */
  readonly size: number | null;
  /** Bytes that hold files and metadata, as the superblock was last written. */
  readonly used: number | null;
  /** The unit of allocation in bytes. */
  readonly blockSize: number | null;
}

export interface NewId {
  /** `ext4 UUID`, `FAT32 volume ID`. */
  readonly what: string;
  readonly old: string;
  readonly new: string;
  /** What the owner should know about the change. */
  readonly note?: string;
}

/** `size` random bytes. */
export type Random = (size: number) => Uint8Array;

/** Devices that reach a driver take any byte offset. */
export interface FilesystemDriver {
  /** Null when the bytes are something else, or contradict themselves. */
  identify(device: BlockDevice): Promise<Filesystem | null>;
  /** Gives a new id to a file system of this kind. Absent when this kind keeps its id. */
  renew?(device: BlockDevice, random: Random): Promise<NewId>;
}

/** Reads `length` bytes at `offset`, or null when the device ends before them. */
export async function readAt(device: BlockDevice, offset: number, length: number): Promise<Uint8Array | null> {
  if (offset < 0 || offset > device.size - length) return null;
  const bytes = new Uint8Array(length);
  await device.read(offset, bytes);
  return bytes;
}

/** Whether `value` is a power of two within the bounds, inclusive. */
export function isPowerOfTwo(value: number, min: number, max: number): boolean {
  return Number.isInteger(value) && value >= min && value <= max && (value & (value - 1)) === 0;
}

export function emptyToNull(text: string): string | null {
  return text === "" ? null : text;
}
