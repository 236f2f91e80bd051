/** The size of a block device: by ioctl, or from sysfs where native calls cannot be had. */
import { readFileSync, type Stats } from "node:fs";
import { DiskError, fromErrno } from "../errors.js";
import { errnoError, type Libc } from "./libc.js";

/** Bytes. `stats` are those of the open descriptor. */
export function blockDeviceSize(fd: number, stats: Stats, native: Libc | null, path: string): number {
  if (native) {
    const size = native.deviceSize(fd);
    if (size < 0) throw fromErrno(`open "${path}"`, errnoError(size, "ioctl BLKGETSIZE64"));
    return size;
  }
  const { major, minor } = deviceNumber(stats.rdev);
  try {
    return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, "utf8")) * 512; // sysfs counts 512-byte sectors, always
  } catch (error) {
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot open "${path}": the size of this block device cannot be found without native calls`,
      { cause: error },
    );
  }
}

/** Major and minor of a Linux `dev_t`. */
export function deviceNumber(dev: number): { major: number; minor: number } {
  const value = BigInt(dev);
  const major = ((value >> 8n) & 0xfffn) | ((value >> 32n) & 0xffff_f000n);
  const minor = (value & 0xffn) | ((value >> 12n) & 0xffff_ff00n);
  return { major: Number(major), minor: Number(minor) };
}
