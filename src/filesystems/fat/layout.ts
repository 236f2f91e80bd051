/** FAT12, FAT16 and FAT32: boot sector, FSInfo, directory entry. Microsoft FAT specification, August 2005, sections 3, 5 and 6. */
import { bytes, constant, magic, reserved, u8, u16, u32 } from "../../bytes/field-types.js";
import { at, type Decoded, layout } from "../../bytes/layout.js";

/** The part of the boot sector that all three share. */
export const FAT_BOOT_SECTOR = layout(
  "FAT boot sector",
  { endian: "le", size: 36, spec: "Microsoft FAT specification, 3.1" },
  {
    jump: at(0, bytes(3), "jump over this table"),
    oemName: at(3, bytes(8), "who formatted it"),
    sectorSize: at(11, u16, "bytes: 512, 1024, 2048 or 4096"),
    clusterSectors: at(13, u8, "sectors of a cluster, a power of two"),
    reservedSectors: at(14, u16, "sectors before the first FAT"),
    fats: at(16, u8, "copies of the FAT"),
    rootEntries: at(17, u16, "entries of the root directory; 0 on FAT32"),
    sectors16: at(19, u16, "sectors, when below 65536"),
    media: at(21, u8, "0xf0, 0xf8 to 0xff"),
    fatSectors16: at(22, u16, "sectors of one FAT; 0 on FAT32"),
    trackSectors: at(24, u16, "sectors of a track"),
    heads: at(26, u16, "heads"),
    hiddenSectors: at(28, u32, "sectors before the partition"),
    sectors32: at(32, u32, "sectors, when sectors16 is 0"),
  },
);

/** Follows at byte 36 on FAT12 and FAT16. */
export const FAT16_EXTENSION = layout(
  "FAT16 boot sector, second part",
  { endian: "le", size: 26, spec: "Microsoft FAT specification, 3.2" },
  {
    drive: at(0, u8, "BIOS drive number"),
    reserved: at(1, reserved(1), "checked flag of Windows NT"),
    signature: at(2, u8, "0x29 when the next three fields are there, 0x28 when only the first is"),
    volumeId: at(3, u32, "serial number"),
    label: at(7, bytes(11), "label, padded with blanks"),
    typeName: at(18, bytes(8), "for people only"),
  },
);

/** Follows at byte 36 on FAT32. */
export const FAT32_EXTENSION = layout(
  "FAT32 boot sector, second part",
  { endian: "le", size: 54, spec: "Microsoft FAT specification, 3.3" },
  {
    fatSectors: at(0, u32, "sectors of one FAT"),
    flags: at(4, u16, "which FAT is in use"),
    version: at(6, u16, "0"),
    rootCluster: at(8, u32, "first cluster of the root directory"),
    infoSector: at(12, u16, "sector of FSInfo"),
    backupSector: at(14, u16, "sector of the boot sector's copy, 0 or 0xffff for none"),
    reserved: at(16, reserved(12), "zero"),
    drive: at(28, u8, "BIOS drive number"),
    reserved1: at(29, reserved(1), "checked flag of Windows NT"),
    signature: at(30, u8, "0x29 when the next three fields are there, 0x28 when only the first is"),
    volumeId: at(31, u32, "serial number"),
    label: at(35, bytes(11), "label, padded with blanks"),
    typeName: at(46, bytes(8), "for people only"),
  },
);

export const FAT_INFO = layout(
  "FAT32 FSInfo",
  { endian: "le", size: 512, spec: "Microsoft FAT specification, 5" },
  {
    lead: at(0, magic("RRaA"), "identifies the sector"),
    reserved: at(4, reserved(480), "zero"),
    structure: at(484, magic("rrAa"), "identifies the sector again"),
    freeClusters: at(488, u32, "free clusters, 0xffffffff when not known"),
    nextFree: at(492, u32, "where to look for the next"),
    reserved2: at(496, reserved(12), "zero"),
    trail: at(508, constant(u32, 0xaa550000), "ends the sector"),
  },
);

export const FAT_DIRECTORY_ENTRY = layout(
  "FAT directory entry",
  { endian: "le", size: 32, spec: "Microsoft FAT specification, 6" },
  {
    name: at(
      0,
      bytes(11),
      "name and extension, or the label; a first byte of 0 ends the directory, 0xe5 is a deleted entry",
    ),
    attributes: at(11, u8, "8 is the label, 0x0f a part of a long name"),
    rest: at(12, bytes(20), "times, cluster, size"),
  },
);

export interface FatVolume {
  readonly kind: "FAT12" | "FAT16" | "FAT32";
  readonly boot: Decoded<typeof FAT_BOOT_SECTOR>;
  readonly second: Pick<Decoded<typeof FAT32_EXTENSION>, "signature" | "volumeId" | "label"> &
    Partial<Decoded<typeof FAT32_EXTENSION>>;
  readonly sectors: number;
  readonly fatSectors: number;
  readonly clusters: number;
  readonly clusterSize: number; // bytes
  readonly fatOffset: number; // bytes
  readonly rootOffset: number; // bytes, of the root directory of FAT12 and FAT16
  readonly dataOffset: number; // bytes, of cluster 2
}
