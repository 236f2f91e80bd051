/** XFS: superblock and log record header. XFS Algorithms & Data Structures (kernel.org xfs-documentation), 3rd edition; Linux fs/xfs/libxfs/xfs_format.h, xfs_log_format.h. */
import { bytes, constant, count64, magic, reserved, u8, u16, u32, u64 } from "../../bytes/field-types.js";
import { at, type Decoded, layout } from "../../bytes/layout.js";
import { utf8, uuid } from "../field-types.js";

/** One copy in the first sector of every allocation group. All numbers are big-endian, but the CRC is not. */
export const XFS_SUPERBLOCK = layout(
  "XFS superblock",
  { endian: "be", size: 264, spec: "Linux, fs/xfs/libxfs/xfs_format.h" },
  {
    magic: at(0, magic("XFSB"), "identifies the superblock"),
    blockSize: at(4, u32, "bytes"),
    dataBlocks: at(8, count64, "blocks of the data device"),
    realtimeBlocks: at(16, u64, "blocks of the realtime device"),
    realtimeExtents: at(24, u64, "extents of the realtime device"),
    uuid: at(32, uuid, "identity of the file system"),
    logStart: at(48, u64, "block number of the internal log (group number and block), 0 when the log is external"),
    rootInode: at(56, u64, "root directory"),
    bitmapInode: at(64, u64, "realtime bitmap"),
    summaryInode: at(72, u64, "realtime summary"),
    realtimeExtentSize: at(80, u32, "blocks"),
    groupBlocks: at(84, u32, "blocks of an allocation group"),
    groupCount: at(88, u32, "allocation groups"),
    bitmapBlocks: at(92, u32, "blocks of the realtime bitmap"),
    logBlocks: at(96, u32, "blocks of the log"),
    version: at(100, u16, "bits 0..3 the version, above them features"),
    sectorSize: at(102, u16, "bytes"),
    inodeSize: at(104, u16, "bytes"),
    inodesPerBlock: at(106, u16, "inodes in a block"),
    label: at(108, utf8(12), "label"),
    blockLog: at(120, u8, "log2 of the block size"),
    sectorLog: at(121, u8, "log2 of the sector size"),
    inodeLog: at(122, u8, "log2 of the inode size"),
    inodesPerBlockLog: at(123, u8, "log2"),
    groupBlockLog: at(124, u8, "log2 of groupBlocks, rounded up"),
    realtimeExtentLog: at(125, u8, "log2"),
    inProgress: at(126, u8, "mkfs has not finished"),
    inodePercent: at(127, u8, "of the space for inodes"),
    inodeCount: at(128, u64, "allocated inodes"),
    freeInodes: at(136, u64, "free inodes"),
    freeBlocks: at(144, count64, "free data blocks"),
    freeRealtimeExtents: at(152, u64, "free realtime extents"),
    userQuotaInode: at(160, u64, "user quotas"),
    groupQuotaInode: at(168, u64, "group quotas"),
    quotaFlags: at(176, u16, "quotas"),
    flags: at(178, u8, "flags"),
    sharedVersion: at(179, u8, "zero"),
    inodeAlignment: at(180, u32, "blocks"),
    stripeUnit: at(184, u32, "blocks"),
    stripeWidth: at(188, u32, "blocks"),
    directoryBlockLog: at(192, u8, "log2 of blocks in a directory block"),
    logSectorLog: at(193, u8, "log2"),
    logSectorSize: at(194, u16, "bytes"),
    logStripeUnit: at(196, u32, "bytes"),
    features2: at(200, u32, "features of version 4"),
    badFeatures2: at(204, u32, "copy of features2 at an old place"),
    featuresCompat: at(208, u32, "features that others may ignore"),
    featuresRoCompat: at(212, u32, "features without which nobody may write"),
    featuresIncompat: at(216, u32, "features without which nobody may read"),
    featuresLog: at(220, u32, "features without which nobody may replay the log"),
    crc: at(224, bytes(4), "little-endian CRC-32C of the sector with this field zero (version 5)"),
    sparseInodeAlignment: at(228, u32, "blocks"),
    projectQuotaInode: at(232, u64, "project quotas"),
    lastWriteLsn: at(240, u64, "log sequence number of the last change"),
    metaUuid: at(248, uuid, "UUID within metadata, when it is not the file system's (meta_uuid)"),
  },
);
export type XfsSuperblock = Decoded<typeof XFS_SUPERBLOCK>;

export const VERSION_MASK = 0xf;
export const VERSION_LOG_V2 = 0x0400;
export const INCOMPAT = {
  fileType: 0x1,
  sparseInodes: 0x2,
  metaUuid: 0x4,
  bigTime: 0x8,
  needsRepair: 0x10,
  largeExtents: 0x20,
  exchangeRange: 0x40,
  parent: 0x80,
} as const;
/** Features whose metadata is known to carry metaUuid and nothing else of the identity. */
export const KNOWN_INCOMPAT = Object.values(INCOMPAT).reduce((all, bit) => all | bit, 0);

/** Log addresses and sizes are in these blocks whatever the sector size is. */
export const BASIC_BLOCK = 512;

/** The first block of a record in the log; the log is a circle of records. */
export const LOG_RECORD = layout(
  "XFS log record header",
  { endian: "be", size: 512, spec: "Linux, fs/xfs/libxfs/xfs_log_format.h" },
  {
    magic: at(0, constant(u32, 0xfeedbabe), "identifies a record header"),
    cycle: at(4, u32, "how often the log has been around"),
    version: at(8, u32, "1 or 2"),
    length: at(12, u32, "bytes of the record's data"),
    lsnCycle: at(16, u32, "cycle of this record"),
    lsnBlock: at(20, u32, "basic block of this record within the log"),
    tailLsn: at(24, u64, "oldest record that recovery needs"),
    crc: at(32, bytes(4), "little-endian CRC-32C of header (328 bytes, this field zero), extended headers and data"),
    previousBlock: at(36, u32, "block of the record before"),
    operations: at(40, u32, "operations in the record"),
    cycleData: at(44, bytes(256), "first words of the data blocks, whose place the cycle takes"),
    format: at(300, u32, "1 is Linux"),
    uuid: at(304, uuid, "the file system's, or zero: not told"),
    bufferSize: at(320, u32, "bytes of the log buffer that was written"),
    reserved: at(324, reserved(188), "zero"),
  },
);
export type LogRecord = Decoded<typeof LOG_RECORD>;
/** Bytes of a record header that its CRC covers: the structure as 64-bit kernels pad it. */
export const LOG_RECORD_CRC_SIZE = 328;
export const LOG_EXTENDED_HEADER_CRC_SIZE = 260;
/** Data that one header can describe; larger buffers have extended headers, one block each. */
export const LOG_DATA_PER_HEADER = 32768;
export const LOG_MAX_RECORD = 256 * 1024;
/** Of the one operation of a record that a clean unmount leaves. */
export const UNMOUNT_CLIENT = 0xaa;
export const UNMOUNT_FLAG = 0x20;
