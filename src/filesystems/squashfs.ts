/** squashfs 4 by its superblock. Linux fs/squashfs/squashfs_fs.h. Identified only; it has neither label nor UUID. */
import type { BlockDevice } from "../block/device.js";
import { bytes, count64, magic, u16, u32 } from "../bytes/field-types.js";
import { at, layout } from "../bytes/layout.js";
import { type Filesystem, isPowerOfTwo, readAt } from "./filesystem.js";

export const SQUASHFS_SUPERBLOCK = layout(
  "squashfs superblock",
  { endian: "le", size: 96, spec: "Linux, fs/squashfs/squashfs_fs.h" },
  {
    magic: at(0, magic("hsqs"), "identifies the superblock"),
    inodes: at(4, u32, "inodes"),
    time: at(8, u32, "creation"),
    blockSize: at(12, u32, "bytes"),
    fragments: at(16, u32, "fragments"),
    compression: at(20, u16, "method"),
    blockLog: at(22, u16, "log2 of the block size"),
    flags: at(24, u16, "flags"),
    ids: at(26, u16, "user and group ids"),
    major: at(28, u16, "4"),
    minor: at(30, u16, "0"),
    rootInode: at(32, bytes(8), "reference to the root directory"),
    used: at(40, count64, "bytes of the file system"),
    tables: at(48, bytes(48), "where the tables lie"),
  },
);

export async function identifySquashfs(device: BlockDevice): Promise<Filesystem | null> {
  const bytes = await readAt(device, 0, SQUASHFS_SUPERBLOCK.size);
  if (!bytes || Buffer.from(bytes.subarray(0, 4)).toString("latin1") !== "hsqs") return null;
  const { major, minor, used, blockSize } = SQUASHFS_SUPERBLOCK.decode(bytes);
  if (major !== 4 || !isPowerOfTwo(blockSize, 4096, 1 << 20)) return null;
  return { type: "squashfs", label: null, uuid: null, version: `${major}.${minor}`, size: used, used, blockSize };
}
