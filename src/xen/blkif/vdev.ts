/** Virtual block device names and numbers: xen-vbd-interface(7). */
import { DiskError } from "../../errors.js";

/** A device as the guest sees it; `partition` 0 is the whole disk. */
export interface Vdev {
  /** Canonical name: `xvda`, `xvda1`, `xvdaa`. */
  readonly name: string;
  /** Device number, as it stands in xenstore in decimal. */
  readonly number: number;
  readonly disk: number;
  readonly partition: number;
}

const XVD_MAJOR = 202;
const EXTENDED = 1 << 28;
const MAX_DISK = (1 << 20) - 1;
const NAME = /^(?:xvd|(sd)|(hd))([a-z]+)(?:0|([1-9]\d{0,2}))?$/;
const COUNTED = /^d(\d{1,7})(?:p(0|[1-9]\d{0,2}))?$/;
const NUMBER = /^(?:0x[0-9a-f]+|\d+)$/;

/** `xvda`, `xvdaa3`, `d3p2`, `hda`, `sdb1`, `51712` or `0xca00` to a device. Throws `UNSUPPORTED` on anything else. */
export function parseVdev(text: string): Vdev {
  const counted = COUNTED.exec(text);
  if (counted) return xvd(text, Number(counted[1]), Number(counted[2] ?? 0));
  if (NUMBER.test(text)) return vdevFromNumber(Number(/^0\d/.test(text) ? `0o${text.slice(1)}` : text));
  const match = NAME.exec(text);
  if (!match) throw bad(text, "allowed are xvda..xvdp1..., sda, hda, d<disk>p<partition> or a device number");
  const disk = diskIndex(match[3]!);
  const partition = Number(match[4] ?? 0);
  if (match[1]) return legacy(text, "sd", disk, partition, 16, 16, (8 << 8) | (disk << 4) | partition);
  if (match[2])
    return legacy(text, "hd", disk, partition, 4, 64, ((disk < 2 ? 3 : 22) << 8) | ((disk & 1) << 6) | partition);
  return xvd(text, disk, partition);
}

/** The device that a number in xenstore means. */
export function vdevFromNumber(number: number): Vdev {
  if (number >= EXTENDED && number < 2 * EXTENDED) {
    const minor = number - EXTENDED;
    return { name: xvdName(minor >> 8, minor & 255), number, disk: minor >> 8, partition: minor & 255 };
  }
  const minor = number & 255;
  if (number >> 8 === XVD_MAJOR)
    return { name: xvdName(minor >> 4, minor & 15), number, disk: minor >> 4, partition: minor & 15 };
  if (number >> 8 === 8)
    return { name: `sd${letters(minor >> 4)}${minor & 15 || ""}`, number, disk: minor >> 4, partition: minor & 15 };
  if (number >> 8 === 3 || number >> 8 === 22) {
    const disk = (minor >> 6) + (number >> 8 === 22 ? 2 : 0);
    if (disk < 4) return { name: `hd${letters(disk)}${minor & 63 || ""}`, number, disk, partition: minor & 63 };
  }
  throw bad(String(number), "the number belongs to no xvd, sd or hd device");
}

/** Partitions that a guest has device numbers for beside the whole disk: 15, and 255 for an extended number. */
export function partitionNumbers({ number }: Vdev): number {
  return number >= EXTENDED ? 255 : 15;
}

/** The whole disk with this index: 0 is xvda. */
export function xvdDisk(disk: number): Vdev {
  return xvd(`disk ${disk}`, disk, 0);
}

function xvd(text: string, disk: number, partition: number): Vdev {
  if (disk > MAX_DISK || partition > 255) throw bad(text, `allowed are disks 0..${MAX_DISK} and partitions 0..255`);
  const small = disk <= 15 && partition <= 15;
  const number = small ? (XVD_MAJOR << 8) | (disk << 4) | partition : EXTENDED + disk * 256 + partition;
  return { name: xvdName(disk, partition), number, disk, partition };
}

function legacy(
  text: string,
  prefix: string,
  disk: number,
  partition: number,
  disks: number,
  partitions: number,
  number: number,
): Vdev {
  if (disk >= disks || partition >= partitions)
    throw bad(text, `allowed are ${prefix}a..${prefix}${letters(disks - 1)} with up to ${partitions - 1} partitions`);
  return { name: `${prefix}${letters(disk)}${partition || ""}`, number, disk, partition };
}

function xvdName(disk: number, partition: number): string {
  return `xvd${letters(disk)}${partition || ""}`;
}

/** The first whole xvd disk that stands beside all of `used`, and whose name is not `taken`. */
export function firstFree(used: readonly Vdev[], taken: (name: string) => boolean = () => false): Vdev {
  for (let disk = 0; ; disk++) {
    const vdev = xvdDisk(disk);
    if (!used.some((other) => collides(other, vdev)) && !taken(vdev.name)) return vdev;
  }
}

/** The same device, or a whole disk beside one of its partitions: a guest has one of the two (xen-vbd-interface(7)). */
export function collides(a: Vdev, b: Vdev): boolean {
  return a.disk === b.disk && (a.partition === b.partition || a.partition === 0 || b.partition === 0);
}

/** Bijective base 26: a is 0, z 25, aa 26. */
function diskIndex(text: string): number {
  if (text.length > 6) return Number.MAX_SAFE_INTEGER;
  return [...text].reduce((value, letter) => value * 26 + letter.charCodeAt(0) - 96, 0) - 1;
}

function letters(disk: number): string {
  let text = "";
  for (let left = disk + 1; left > 0; left = Math.floor((left - 1) / 26))
    text = String.fromCharCode(97 + ((left - 1) % 26)) + text;
  return text;
}

function bad(text: string, why: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot use ${JSON.stringify(text)} as a virtual device: ${why}`, {
    details: { usage: true, vdev: text },
  });
}
