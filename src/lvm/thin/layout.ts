/**
 * Blocks of dm-thin's metadata, 4096 bytes each: Linux drivers/md/dm-thin-metadata.c and drivers/md/persistent-data/. Little-endian.
 * Each begins with a CRC-32C of the bytes behind it, which carries what kind of block it is, and with its own number.
 */
import { bytes, constant, count64, reserved, u32 } from "../../bytes/field-types.js";
import { at, type Decoded, layout } from "../../bytes/layout.js";

export const BLOCK = 4096;
export const SECTOR = 512;
/** Two bits a block, behind the header. */
export const ENTRIES_PER_BITMAP = (BLOCK - 16) * 4;
/** Entries of the one index block of the metadata space map: it limits the metadata to 15.875 GiB. */
export const INDEX_ENTRIES = 255;
export const MAX_METADATA_BLOCKS = INDEX_ENTRIES * ENTRIES_PER_BITMAP;

export const THIN_SUPERBLOCK = layout(
  "dm-thin superblock",
  { endian: "le", size: BLOCK, spec: "Linux, drivers/md/dm-thin-metadata.c" },
  {
    checksum: at(0, u32, "CRC-32C of bytes 4..4095, without the final inversion, xor 160774"),
    flags: at(4, u32, "bit 0: needs a check"),
    blockNumber: at(8, constant(count64, 0), "0"),
    uuid: at(16, reserved(16), "not used"),
    magic: at(32, constant(count64, 27022010), "identifies the metadata"),
    version: at(40, u32, "2"),
    time: at(44, u32, "raised by each snapshot"),
    transactionId: at(48, count64, "LVM2's count of changes"),
    heldRoot: at(56, count64, "the superblock of a metadata snapshot, 0: there is none"),
    dataSpaceMap: at(64, bytes(128), "root of the reference counts of data blocks"),
    metadataSpaceMap: at(192, bytes(128), "root of the reference counts of metadata blocks"),
    mappingRoot: at(320, count64, "tree of trees: device, virtual block -> data block"),
    detailsRoot: at(328, count64, "tree: device -> details"),
    dataBlockSize: at(336, u32, "sectors of a data block"),
    metadataBlockSize: at(340, constant(u32, 8), "sectors of a metadata block"),
    metadataBlocks: at(344, count64, "blocks of the metadata device"),
    compat: at(352, u32, "features that anybody may ignore"),
    compatReadOnly: at(356, u32, "features that readers may ignore"),
    incompat: at(360, u32, "features that nobody may ignore"),
    rest: at(364, reserved(BLOCK - 364), "zero"),
  },
);
export type ThinSuperblock = Decoded<typeof THIN_SUPERBLOCK>;

export const SPACE_MAP_ROOT = layout(
  "dm-thin space map root",
  { endian: "le", size: 32, spec: "Linux, drivers/md/persistent-data/dm-space-map-common.h" },
  {
    blocks: at(0, count64, "blocks that are counted"),
    allocated: at(8, count64, "those with a count above 0"),
    bitmapRoot: at(16, count64, "data: tree of index entries; metadata: the index block"),
    refCountRoot: at(24, count64, "tree: block -> count, for counts from 3 on"),
  },
);
export type SpaceMapRoot = Decoded<typeof SPACE_MAP_ROOT>;

export const NODE_HEADER = layout(
  "dm-thin tree node",
  { endian: "le", size: 32, spec: "Linux, drivers/md/persistent-data/dm-btree-internal.h" },
  {
    checksum: at(0, u32, "as in the superblock, xor 121107"),
    flags: at(4, u32, "bit 0: internal, bit 1: leaf"),
    blockNumber: at(8, count64, "where this block lies"),
    entries: at(16, u32, "keys in use; 64-bit keys begin at byte 32"),
    maxEntries: at(20, u32, "room for keys; values begin behind it"),
    valueSize: at(24, u32, "bytes of a value: 8 in internal nodes"),
    padding: at(28, u32, "zero"),
  },
);

export const BITMAP_HEADER = layout(
  "dm-thin bitmap",
  { endian: "le", size: 16, spec: "Linux, drivers/md/persistent-data/dm-space-map-common.h" },
  {
    checksum: at(0, u32, "as in the superblock, xor 240779 (index block: 160478)"),
    unused: at(4, u32, "zero"),
    blockNumber: at(8, count64, "where this block lies; two bits for each counted block follow, the high one first"),
  },
);

export const INDEX_ENTRY = layout(
  "dm-thin index entry",
  { endian: "le", size: 16, spec: "Linux, drivers/md/persistent-data/dm-space-map-common.h" },
  {
    bitmap: at(0, count64, "block of the bitmap"),
    free: at(8, u32, "entries of it that are 0"),
    noneFreeBefore: at(12, u32, "all entries before this one are in use"),
  },
);
export type IndexEntry = Decoded<typeof INDEX_ENTRY>;

export const DEVICE_DETAILS = layout(
  "dm-thin device details",
  { endian: "le", size: 24, spec: "Linux, drivers/md/dm-thin-metadata.c" },
  {
    mappedBlocks: at(0, count64, "blocks of the device that have a place"),
    transactionId: at(8, count64, "in which it was made"),
    creationTime: at(16, u32, "time of the pool then"),
    snapshotTime: at(20, u32, "time of the last snapshot of it or from it: older mappings are shared"),
  },
);
export type DeviceDetails = Decoded<typeof DEVICE_DETAILS>;
