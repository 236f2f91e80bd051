/** XFS by its superblock. */
import type { BlockDevice } from "../../block/device.js";
import { emptyToNull, type Filesystem, isPowerOfTwo, readAt } from "../filesystem.js";
import { VERSION_MASK, XFS_SUPERBLOCK, type XfsSuperblock } from "./layout.js";

export async function identifyXfs(device: BlockDevice): Promise<Filesystem | null> {
  const superblock = await readXfsSuperblock(device);
  if (!superblock) return null;
  return {
    type: "xfs",
    label: emptyToNull(superblock.label),
    uuid: superblock.uuid,
    version: String(superblock.version & VERSION_MASK),
    size: superblock.dataBlocks * superblock.blockSize,
    used: (superblock.dataBlocks - superblock.freeBlocks) * superblock.blockSize,
    blockSize: superblock.blockSize,
  };
}

/** The primary superblock, or null when there is none or its numbers cannot be. */
export async function readXfsSuperblock(device: BlockDevice): Promise<XfsSuperblock | null> {
  const bytes = await readAt(device, 0, XFS_SUPERBLOCK.size);
  if (!bytes || Buffer.from(bytes.subarray(0, 4)).toString("latin1") !== "XFSB") return null;
  const superblock = XFS_SUPERBLOCK.decode(bytes);
  return isPossible(superblock) ? superblock : null;
}

function isPossible(superblock: XfsSuperblock): boolean {
  const { blockSize, sectorSize, dataBlocks, groupBlocks, groupCount, freeBlocks } = superblock;
  return (
    isPowerOfTwo(blockSize, 512, 65536) &&
    2 ** superblock.blockLog === blockSize &&
    isPowerOfTwo(sectorSize, 512, 32768) &&
    sectorSize <= blockSize &&
    Number.isSafeInteger(dataBlocks * blockSize) &&
    freeBlocks <= dataBlocks &&
    groupBlocks >= 64 &&
    groupCount > 0 &&
    (groupCount - 1) * groupBlocks < dataBlocks &&
    groupCount * groupBlocks >= dataBlocks &&
    superblock.groupBlockLog <= 31
  );
}
