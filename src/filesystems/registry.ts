/**
 * Every kind of file system that is told from its superblock. What encloses others comes first: its inside may look like another.
 * A kind's code is loaded only when its signature is there, so that listing a disk's partitions stays cheap.
 */
import type { FilesystemDriver } from "./filesystem.js";

/** Bytes at an offset; the text is Latin-1. */
export type Signature = readonly [offset: number, text: string];

export interface FilesystemKind {
  /** For messages: `ext2/3/4`. */
  readonly name: string;
  /** One of them is there when the kind is; that alone does not prove it. */
  readonly signatures: readonly Signature[];
  load(): Promise<FilesystemDriver>;
}

export const FILESYSTEMS: readonly FilesystemKind[] = [
  {
    name: "LUKS",
    signatures: [[0, "LUKS\xba\xbe"]],
    load: async () => ({ identify: (await import("./luks.js")).identifyLuks }),
  },
  {
    name: "LVM2 physical volume",
    signatures: [0, 512, 1024, 1536].map((offset) => [offset, "LABELONE"]),
    load: async () => ({ identify: (await import("./lvm2-member.js")).identifyLvm2Member }),
  },
  {
    name: "XFS",
    signatures: [[0, "XFSB"]],
    load: async () => ({
      identify: (await import("./xfs/identify.js")).identifyXfs,
      renew: async (device, random) => (await import("./xfs/renew.js")).renewXfs(device, random),
    }),
  },
  {
    name: "ext2/3/4",
    signatures: [[1080, "\x53\xef"]],
    load: async () => ({
      identify: (await import("./ext/identify.js")).identifyExt,
      renew: async (device, random) => (await import("./ext/renew.js")).renewExt(device, random),
    }),
  },
  {
    name: "btrfs",
    signatures: [[65600, "_BHRfS_M"]],
    load: async () => {
      const { identifyBtrfs, renewBtrfs } = await import("./btrfs.js");
      return { identify: identifyBtrfs, renew: renewBtrfs };
    },
  },
  {
    name: "NTFS",
    signatures: [[3, "NTFS    "]],
    load: async () => ({ identify: (await import("./ntfs.js")).identifyNtfs }),
  },
  {
    name: "exFAT",
    signatures: [[3, "EXFAT   "]],
    load: async () => ({ identify: (await import("./exfat.js")).identifyExfat }),
  },
  {
    name: "FAT",
    signatures: [[510, "\x55\xaa"]],
    load: async () => ({
      identify: (await import("./fat/identify.js")).identifyFat,
      renew: async (device, random) => (await import("./fat/renew.js")).renewFat(device, random),
    }),
  },
  {
    name: "squashfs",
    signatures: [[0, "hsqs"]],
    load: async () => ({ identify: (await import("./squashfs.js")).identifySquashfs }),
  },
  {
    name: "ISO 9660",
    signatures: [[32769, "CD001"]],
    load: async () => ({ identify: (await import("./iso9660.js")).identifyIso9660 }),
  },
  {
    name: "swap",
    signatures: [4096, 8192, 16384, 32768, 65536].map((page) => [page - 10, "SWAPSPACE2"]),
    load: async () => {
      const { identifySwap, renewSwap } = await import("./swap.js");
      return { identify: identifySwap, renew: renewSwap };
    },
  },
];
