/** ext2, ext3 and ext4: the superblock. Linux Documentation/filesystems/ext4/super.rst; e2fsprogs lib/ext2fs/ext2_fs.h 1.47. */
import { bytes, constant, reserved, u8, u16, u32, u64 } from "../../bytes/field-types.js";
import { at, type Decoded, layout } from "../../bytes/layout.js";
import { utf8, uuid } from "../field-types.js";

/** The superblock of group 0 is always here, in bytes. */
export const SUPERBLOCK_OFFSET = 1024;

export const EXT_SUPERBLOCK = layout(
  "ext superblock",
  { endian: "le", size: 1024, spec: "Linux, filesystems/ext4/super.rst" },
  {
    inodesCount: at(0x0, u32, "inodes"),
    blocksCountLo: at(0x4, u32, "blocks, low half"),
    reservedBlocksLo: at(0x8, u32, "blocks for root only, low half"),
    freeBlocksLo: at(0xc, u32, "free blocks, low half"),
    freeInodes: at(0x10, u32, "free inodes"),
    firstDataBlock: at(0x14, u32, "block where group 0 begins: 1 with 1 KiB blocks, else 0"),
    logBlockSize: at(0x18, u32, "block size is 1024 << this"),
    logClusterSize: at(0x1c, u32, "cluster size is 1024 << this (bigalloc)"),
    blocksPerGroup: at(0x20, u32, "blocks in a group"),
    clustersPerGroup: at(0x24, u32, "clusters in a group"),
    inodesPerGroup: at(0x28, u32, "inodes in a group"),
    mountTime: at(0x2c, u32, "last mount"),
    writeTime: at(0x30, u32, "last write"),
    mountCount: at(0x34, u16, "mounts since the last check"),
    maxMountCount: at(0x36, u16, "mounts until a check"),
    magic: at(0x38, constant(u16, 0xef53), "identifies the superblock"),
    state: at(0x3a, u16, "1 cleanly unmounted, 2 errors found, 4 orphans being recovered"),
    errors: at(0x3c, u16, "what to do on an error"),
    minorRevision: at(0x3e, u16, "minor revision"),
    lastCheck: at(0x40, u32, "last check"),
    checkInterval: at(0x44, u32, "seconds between checks"),
    creatorOs: at(0x48, u32, "0 is Linux"),
    revision: at(0x4c, u32, "1 when inode size and features are given"),
    defaultUid: at(0x50, u16, "owner of reserved blocks"),
    defaultGid: at(0x52, u16, "group of reserved blocks"),
    firstInode: at(0x54, u32, "first inode for files"),
    inodeSize: at(0x58, u16, "bytes"),
    groupNumber: at(0x5a, u16, "group that holds this copy"),
    featureCompat: at(0x5c, u32, "features that others may ignore"),
    featureIncompat: at(0x60, u32, "features without which nobody may read"),
    featureRoCompat: at(0x64, u32, "features without which nobody may write"),
    uuid: at(0x68, uuid, "identity of the file system"),
    volumeName: at(0x78, utf8(16), "label"),
    lastMounted: at(0x88, bytes(64), "directory of the last mount"),
    algorithms: at(0xc8, u32, "compression algorithms"),
    preallocBlocks: at(0xcc, u8, "blocks to preallocate for files"),
    preallocDirBlocks: at(0xcd, u8, "blocks to preallocate for directories"),
    reservedGdtBlocks: at(0xce, u16, "descriptor blocks kept for growth"),
    journalUuid: at(0xd0, uuid, "of an external journal"),
    journalInode: at(0xe0, u32, "inode of the journal"),
    journalDevice: at(0xe4, u32, "device number of an external journal"),
    lastOrphan: at(0xe8, u32, "head of the list of inodes to delete"),
    hashSeed: at(0xec, bytes(16), "of directory hashes"),
    defaultHashVersion: at(0xfc, u8, "of directory hashes"),
    journalBackupType: at(0xfd, u8, "1 when journalBlocks holds a copy"),
    descriptorSize: at(0xfe, u16, "bytes of a group descriptor with the 64bit feature"),
    defaultMountOptions: at(0x100, u32, "mount options"),
    firstMetaBlockGroup: at(0x104, u32, "first descriptor block of the meta_bg arrangement"),
    mkfsTime: at(0x108, u32, "creation"),
    journalBlocks: at(0x10c, bytes(68), "copy of the journal inode's block list"),
    blocksCountHi: at(0x150, u32, "blocks, high half (64bit)"),
    reservedBlocksHi: at(0x154, u32, "reserved blocks, high half"),
    freeBlocksHi: at(0x158, u32, "free blocks, high half"),
    minExtraInodeSize: at(0x15c, u16, "bytes that every inode has beyond 128"),
    wantExtraInodeSize: at(0x15e, u16, "bytes that new inodes reserve"),
    flags: at(0x160, u32, "1 and 2: sign of directory hashes"),
    raidStride: at(0x164, u16, "blocks on one disk before the next"),
    mmpInterval: at(0x166, u16, "seconds between multi-mount checks"),
    mmpBlock: at(0x168, u64, "block of multi-mount protection"),
    raidStripeWidth: at(0x170, u32, "blocks in a stripe"),
    logGroupsPerFlex: at(0x174, u8, "groups in a flexible group are 1 << this"),
    checksumType: at(0x175, u8, "1 is CRC-32C"),
    encryptionLevel: at(0x176, u8, "of encryption"),
    padding: at(0x177, reserved(1), "none"),
    kibWritten: at(0x178, u64, "KiB written over the lifetime"),
    snapshot: at(0x180, bytes(20), "never used outside of an experiment"),
    errorRecord: at(0x194, bytes(108), "first and last error: times, inodes, blocks, functions"),
    mountOptions: at(0x200, bytes(64), "mount options as text"),
    userQuotaInode: at(0x240, u32, "inode of user quotas"),
    groupQuotaInode: at(0x244, u32, "inode of group quotas"),
    overheadBlocks: at(0x248, u32, "blocks of metadata"),
    backupGroup0: at(0x24c, u32, "first group with a backup (sparse_super2)"),
    backupGroup1: at(0x250, u32, "second group with a backup (sparse_super2)"),
    encryptionAlgorithms: at(0x254, bytes(4), "in use"),
    encryptionSalt: at(0x258, bytes(16), "of passwords"),
    lostFoundInode: at(0x268, u32, "inode of lost+found"),
    projectQuotaInode: at(0x26c, u32, "inode of project quotas"),
    checksumSeed: at(0x270, u32, "raw CRC-32C of the UUID that metadata checksums began with (metadata_csum_seed)"),
    timesHi: at(0x274, bytes(8), "high bytes of the times, error codes"),
    encoding: at(0x27c, u16, "of file names"),
    encodingFlags: at(0x27e, u16, "of file names"),
    orphanFileInode: at(0x280, u32, "inode of the orphan file"),
    reserved: at(0x284, reserved(376), "zero"),
    checksum: at(0x3fc, u32, "raw CRC-32C of the bytes before it (metadata_csum)"),
  },
);
export type ExtSuperblock = Decoded<typeof EXT_SUPERBLOCK>;

export const COMPAT = { hasJournal: 0x4, sparseSuper2: 0x200, stableInodes: 0x800 } as const;
export const INCOMPAT = {
  recover: 0x4,
  journalDevice: 0x8,
  metaBg: 0x10,
  bit64: 0x80,
  flexBg: 0x200,
  eaInode: 0x400,
  csumSeed: 0x2000,
} as const;
export const RO_COMPAT = {
  sparseSuper: 0x1,
  largeFile: 0x2,
  btreeDir: 0x4,
  gdtCsum: 0x10,
  metadataCsum: 0x400,
} as const;
/** What the ext2 and ext3 drivers knew: anything beyond makes it ext4. */
export const EXT3_INCOMPAT = 0x2 | INCOMPAT.recover | INCOMPAT.metaBg; // 0x2: entries of directories have types
export const EXT3_RO_COMPAT = RO_COMPAT.sparseSuper | RO_COMPAT.largeFile | RO_COMPAT.btreeDir;

export const blockSizeOf = (superblock: ExtSuperblock): number => 1024 * 2 ** superblock.logBlockSize;

/** Blocks of the file system. The high half counts only with the 64bit feature. */
export function blocksOf(superblock: ExtSuperblock): number {
  return superblock.blocksCountLo + (is64bit(superblock) ? superblock.blocksCountHi * 2 ** 32 : 0);
}

export function freeBlocksOf(superblock: ExtSuperblock): number {
  return superblock.freeBlocksLo + (is64bit(superblock) ? superblock.freeBlocksHi * 2 ** 32 : 0);
}

export const groupsOf = (superblock: ExtSuperblock): number =>
  Math.ceil((blocksOf(superblock) - superblock.firstDataBlock) / superblock.blocksPerGroup);

/** Bytes of one group descriptor. */
export const descriptorSizeOf = (superblock: ExtSuperblock): number =>
  is64bit(superblock) ? superblock.descriptorSize : 32;

const is64bit = (superblock: ExtSuperblock): boolean => (superblock.featureIncompat & INCOMPAT.bit64) !== 0;
