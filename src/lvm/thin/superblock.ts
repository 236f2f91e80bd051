/** The superblock of a pool's metadata: read, judged, written. It is the only block that is written in place, one sector of it. */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { checkBlock, newBlock, seal } from "./block.js";
import { BLOCK, SECTOR, SPACE_MAP_ROOT, type SpaceMapRoot, THIN_SUPERBLOCK, type ThinSuperblock } from "./layout.js";

export const NEEDS_CHECK = 1;

/** Null: the metadata is not formatted yet (its first block is zero), as the kernel takes it. */
export async function readSuperblock(device: BlockDevice): Promise<ThinSuperblock | null> {
  const block = newBlock(0, "superblock");
  if (device.size < BLOCK)
    throw new DiskError(
      "CORRUPT",
      `Cannot read ${device.label}: it has ${device.size} bytes, a superblock has ${BLOCK}`,
    );
  await device.read(0, block.bytes);
  if (block.bytes.every((byte) => byte === 0)) return null;
  checkBlock(block, device.label);
  const superblock = THIN_SUPERBLOCK.decode(block.bytes);
  const refuse = (found: string, code: "CORRUPT" | "UNSUPPORTED" = "CORRUPT"): never => {
    throw new DiskError(code, `Cannot read the superblock of ${device.label}: ${found}`);
  };
  const { version, incompat, dataBlockSize, metadataBlocks } = superblock;
  if (version < 1 || version > 2) refuse(`version is ${version}, allowed 1 and 2`, "UNSUPPORTED");
  if (incompat !== 0) refuse(`incompatible features are ${incompat}, allowed 0`, "UNSUPPORTED");
  if (dataBlockSize < 128 || dataBlockSize > 2097152 || dataBlockSize % 128 !== 0)
    refuse(`the data block size is ${dataBlockSize} sectors, allowed are multiples of 128 from 128 to 2097152`);
  if (metadataBlocks * BLOCK > device.size)
    refuse(`it counts ${metadataBlocks} metadata blocks, which take more than the device's ${device.size} bytes`);
  return superblock;
}

export function spaceMapRoots({ dataSpaceMap, metadataSpaceMap }: ThinSuperblock): {
  data: SpaceMapRoot;
  metadata: SpaceMapRoot;
} {
  return { data: SPACE_MAP_ROOT.decode(dataSpaceMap), metadata: SPACE_MAP_ROOT.decode(metadataSpaceMap) };
}

/** Durable when it resolves. Only its sector is written, which storage does wholly or not at all. */
export async function writeSuperblock(device: BlockDevice, superblock: ThinSuperblock): Promise<void> {
  const block = newBlock(0, "superblock");
  THIN_SUPERBLOCK.encode(superblock, block.bytes);
  seal(block);
  await device.write(0, block.bytes.subarray(0, Math.max(SECTOR, device.blockSize)));
  await device.flush();
}

export function encodeSpaceMapRoot(root: SpaceMapRoot): Uint8Array {
  return SPACE_MAP_ROOT.encode(root, new Uint8Array(128));
}
