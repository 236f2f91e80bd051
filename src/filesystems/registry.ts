/** Every kind of file system that is told from its superblock. What encloses others comes first: its inside may look like another. */
import { identifyBtrfs, renewBtrfs } from "./btrfs.js";
import { identifyExfat } from "./exfat.js";
import { identifyExt } from "./ext/identify.js";
import { identifyFat } from "./fat/identify.js";
import type { FilesystemDriver } from "./filesystem.js";
import { identifyIso9660 } from "./iso9660.js";
import { identifyLuks } from "./luks.js";
import { identifyLvm2Member } from "./lvm2-member.js";
import { identifyNtfs } from "./ntfs.js";
import { identifySquashfs } from "./squashfs.js";
import { identifySwap, renewSwap } from "./swap.js";
import { identifyXfs } from "./xfs/identify.js";

export const FILESYSTEMS: readonly FilesystemDriver[] = [
  { name: "LUKS", identify: identifyLuks },
  { name: "LVM2 physical volume", identify: identifyLvm2Member },
  {
    name: "XFS",
    identify: identifyXfs,
    renew: async (device, random) => (await import("./xfs/renew.js")).renewXfs(device, random),
  },
  {
    name: "ext2/3/4",
    identify: identifyExt,
    renew: async (device, random) => (await import("./ext/renew.js")).renewExt(device, random),
  },
  { name: "btrfs", identify: identifyBtrfs, renew: renewBtrfs },
  { name: "NTFS", identify: identifyNtfs },
  { name: "exFAT", identify: identifyExfat },
  {
    name: "FAT",
    identify: identifyFat,
    renew: async (device, random) => (await import("./fat/renew.js")).renewFat(device, random),
  },
  { name: "squashfs", identify: identifySquashfs },
  { name: "ISO 9660", identify: identifyIso9660 },
  { name: "swap", identify: identifySwap, renew: renewSwap },
];
