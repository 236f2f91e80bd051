/** ext2, ext3 and ext4 by their superblock, told apart by the features that each driver knows. */
import type { BlockDevice } from "../../block/device.js";
import { emptyToNull, type Filesystem, isPowerOfTwo, readAt } from "../filesystem.js";
import {
  blockSizeOf,
  blocksOf,
  COMPAT,
  descriptorSizeOf,
  EXT_SUPERBLOCK,
  EXT3_INCOMPAT,
  EXT3_RO_COMPAT,
  type ExtSuperblock,
  freeBlocksOf,
  INCOMPAT,
  SUPERBLOCK_OFFSET,
} from "./layout.js";

export async function identifyExt(device: BlockDevice): Promise<Filesystem | null> {
  const superblock = await readExtSuperblock(device);
  if (!superblock) return null;
  const blockSize = blockSizeOf(superblock);
  const journalDevice = (superblock.featureIncompat & INCOMPAT.journalDevice) !== 0;
  return {
    type: extType(superblock),
    label: emptyToNull(superblock.volumeName),
    uuid: superblock.uuid,
    version: `${superblock.revision}.${superblock.minorRevision}`,
    size: blocksOf(superblock) * blockSize,
    used: journalDevice ? null : (blocksOf(superblock) - freeBlocksOf(superblock)) * blockSize,
    blockSize,
  };
}

/** The primary superblock, or null when there is none or its numbers cannot be. */
export async function readExtSuperblock(device: BlockDevice): Promise<ExtSuperblock | null> {
  const bytes = await readAt(device, SUPERBLOCK_OFFSET, EXT_SUPERBLOCK.size);
  if (bytes?.[EXT_SUPERBLOCK.fields.magic.offset] !== 0x53 || bytes[EXT_SUPERBLOCK.fields.magic.offset + 1] !== 0xef)
    return null;
  const superblock = EXT_SUPERBLOCK.decode(bytes);
  return isPossible(superblock) ? superblock : null;
}

function isPossible(superblock: ExtSuperblock): boolean {
  const { logBlockSize, blocksPerGroup, firstDataBlock } = superblock;
  if (logBlockSize > 6 || !Number.isSafeInteger(blocksOf(superblock) * blockSizeOf(superblock))) return false;
  if (superblock.featureIncompat & INCOMPAT.journalDevice) return true;
  const descriptor = descriptorSizeOf(superblock);
  const descriptorFits = isPowerOfTwo(descriptor, 32, blockSizeOf(superblock) / 4);
  return (
    blocksPerGroup >= 64 &&
    firstDataBlock <= 1 &&
    blocksOf(superblock) > firstDataBlock &&
    freeBlocksOf(superblock) <= blocksOf(superblock) &&
    descriptorFits
  );
}

function extType(superblock: ExtSuperblock): string {
  const { featureCompat, featureIncompat, featureRoCompat } = superblock;
  if (featureIncompat & INCOMPAT.journalDevice) return "jbd";
  if (featureIncompat & ~EXT3_INCOMPAT || featureRoCompat & ~EXT3_RO_COMPAT) return "ext4";
  return featureCompat & COMPAT.hasJournal ? "ext3" : "ext2";
}
