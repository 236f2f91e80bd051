/**
 * What lies on the small volume beside each image of a RAID volume (`_rmeta_N`), and on the log of a mirror (`_mlog`).
 * Linux drivers/md: dm-raid.c, md-bitmap.h, dm-log.c. Everything is little-endian; nothing carries a checksum.
 *
 *   rmeta   at 0     superblock of this image
 *           at 4096  header of the write-intent bitmap, then one bit for each region from byte 4352 on: 1 = legs may differ
 *   mlog    at 0     header; one bit for each region from byte 1024 on: 1 = legs are alike
 */
import { bytes, constant, reserved, u32, u64 } from "../../bytes/field-types.js";
import { at, type Decoded, layout } from "../../bytes/layout.js";

export const RAID_SUPERBLOCK = layout(
  "dm-raid superblock",
  { endian: "le", size: 512, spec: "Linux 6.1, drivers/md/dm-raid.c" },
  {
    magic: at(0, constant(u32, 0x64526d44), "DmRd"),
    compatFeatures: at(4, u32, "1: the fields from byte 60 on are in force"),
    devices: at(8, u32, "images of the volume"),
    position: at(12, u32, "index of this image"),
    events: at(16, u64, "raised with each change of state; the image with the highest knows best"),
    failedDevices: at(24, u64, "one bit for each image that has missed writes"),
    recoveryOffset: at(32, u64, "sectors of this image that are rebuilt; all ones: all of it"),
    resyncOffset: at(40, u64, "sectors up to which legs are alike; all ones: all of them"),
    level: at(48, u32, "1, 5, 6 or 10; raid4 is 5 with a layout of its own"),
    layout: at(52, u32, "algorithm of parity, or copies of RAID 10"),
    stripeSectors: at(56, u32, "sectors of a chunk"),
    flags: at(60, u32, "bit 0: a reshape is under way"),
    reshapePosition: at(64, u64, "sector; all ones without a reshape"),
    newLevel: at(72, u32, "as level, after a reshape"),
    newLayout: at(76, u32, "as layout, after a reshape"),
    newStripeSectors: at(80, u32, "as stripeSectors, after a reshape"),
    deltaDisks: at(84, u32, "images that a reshape adds"),
    arraySectors: at(88, u64, "sectors of the volume"),
    dataOffset: at(96, u64, "sectors before the data of this image"),
    newDataOffset: at(104, u64, "as dataOffset, after a reshape"),
    sectors: at(112, u64, "sectors of this image"),
    moreFailedDevices: at(120, bytes(24), "bits of images from the 64th on"),
    incompatFeatures: at(144, u32, "0"),
    rest: at(148, reserved(364), "zero"),
  },
);
export type RaidSuperblock = Decoded<typeof RAID_SUPERBLOCK>;

export const BITMAP_OFFSET = 4096;
/** Bytes of the bitmap's header; the bits follow. */
export const BITMAP_HEADER_SIZE = 256;

export const BITMAP_HEADER = layout(
  "MD bitmap header",
  { endian: "le", size: BITMAP_HEADER_SIZE, spec: "Linux 6.1, drivers/md/md-bitmap.h" },
  {
    magic: at(0, constant(u32, 0x6d746962), "bitm"),
    version: at(4, constant(u32, 4), "4"),
    uuid: at(8, bytes(16), "zero for device-mapper"),
    events: at(24, u64, "not below those of the superblock; otherwise every region counts as dirty"),
    eventsCleared: at(
      32,
      u64,
      "those at which bits were last cleared: an image that knows them needs only the dirty regions",
    ),
    syncSectors: at(40, u64, "sectors that the bits stand for"),
    state: at(48, u32, "bit 1: out of date"),
    regionSize: at(52, u32, "bytes, a power of two"),
    daemonSleep: at(56, u32, "seconds between clearings"),
    writeBehind: at(60, u32, "writes that may be late on slow images"),
    sectorsReserved: at(64, u32, "sectors kept for the bitmap"),
    nodes: at(68, u32, "hosts of a cluster"),
    rest: at(72, reserved(184), "zero"),
  },
);
export type BitmapHeader = Decoded<typeof BITMAP_HEADER>;

export const MIRROR_LOG_BITS = 1024;

export const MIRROR_LOG_HEADER = layout(
  "dm-mirror log header",
  { endian: "le", size: 16, spec: "Linux 6.1, drivers/md/dm-log.c" },
  {
    magic: at(0, constant(u32, 0x4d695272), "MiRr"),
    version: at(4, u32, "2"),
    regions: at(8, u64, "regions that have a bit; all ones when it was made by a program"),
  },
);
