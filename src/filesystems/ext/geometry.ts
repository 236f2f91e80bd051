/**
 * Where ext keeps its copies: superblocks and group descriptors.
 *
 *   group 0     [boot 1 KiB][superblock][descriptors ........][bitmaps, inodes, data]
 *   group 1,3,5,7,9,25,27,49,... (sparse_super)   [superblock][descriptors][...]
 *   meta_bg     one descriptor block per metagroup, in its first, second and last group
 */
import {
  blockSizeOf,
  COMPAT,
  descriptorSizeOf,
  type ExtSuperblock,
  groupsOf,
  INCOMPAT,
  RO_COMPAT,
  SUPERBLOCK_OFFSET,
} from "./layout.js";

/** Groups beside 0 that hold a copy of the superblock, ascending. Without sparse_super that is every group. */
export function* backupGroups(superblock: ExtSuperblock): Generator<number> {
  const groups = groupsOf(superblock);
  if (superblock.featureCompat & COMPAT.sparseSuper2) {
    for (const group of [superblock.backupGroup0, superblock.backupGroup1])
      if (group > 0 && group < groups) yield group;
  } else if (superblock.featureRoCompat & RO_COMPAT.sparseSuper) {
    yield* sparseGroups(groups);
  } else {
    for (let group = 1; group < groups; group++) yield group;
  }
}

/** 1 and the powers of 3, 5 and 7 below `groups`. */
function sparseGroups(groups: number): number[] {
  const found = new Set<number>(groups > 1 ? [1] : []);
  for (const base of [3, 5, 7]) for (let power = base; power < groups; power *= base) found.add(power);
  return [...found].sort((a, b) => a - b);
}

/** Byte offset of a group's copy of the superblock; group 0's is the primary. */
export function superblockOffset(superblock: ExtSuperblock, group: number): number {
  return group === 0 ? SUPERBLOCK_OFFSET : groupOffset(superblock, group);
}

function groupOffset(superblock: ExtSuperblock, group: number): number {
  return (superblock.firstDataBlock + group * superblock.blocksPerGroup) * blockSizeOf(superblock);
}

/** One block of group descriptors: where it lies, the number of its first group, and how many groups it describes. */
export interface DescriptorBlock {
  readonly offset: number;
  readonly firstGroup: number;
  readonly groups: number;
}

/** All copies of all descriptor blocks: every backup before the primary. */
export function* descriptorBlocks(superblock: ExtSuperblock): Generator<DescriptorBlock> {
  const perBlock = blockSizeOf(superblock) / descriptorSizeOf(superblock);
  const all = groupsOf(superblock);
  const isMetaBg = (superblock.featureIncompat & INCOMPAT.metaBg) !== 0;
  const plainBlocks = Math.min(
    Math.ceil(all / perBlock),
    isMetaBg ? superblock.firstMetaBlockGroup : Number.POSITIVE_INFINITY,
  );
  const describe = (offset: number, block: number): DescriptorBlock => {
    const firstGroup = block * perBlock;
    return { offset, firstGroup, groups: Math.min(perBlock, all - firstGroup) };
  };
  for (const group of [...backupGroups(superblock), 0])
    for (let block = 0; block < plainBlocks; block++)
      yield describe(afterSuperblock(superblock, group) + block * blockSizeOf(superblock), block);
  if (!isMetaBg) return;
  const withSuperblock = new Set([0, ...backupGroups(superblock)]);
  for (let block = plainBlocks; block * perBlock < all; block++) {
    const first = block * perBlock;
    for (const group of [first + perBlock - 1, first + 1, first]) {
      if (group >= all) continue;
      const offset = withSuperblock.has(group) ? afterSuperblock(superblock, group) : groupOffset(superblock, group);
      yield describe(offset, block);
    }
  }
}

/** The block after a group's superblock. With 1 KiB blocks and bigalloc group 0 begins at block 0, its superblock fills block 1. */
function afterSuperblock(superblock: ExtSuperblock, group: number): number {
  const blockSize = blockSizeOf(superblock);
  const own = group === 0 && blockSize === 1024 ? SUPERBLOCK_OFFSET : groupOffset(superblock, group);
  return own + blockSize;
}
