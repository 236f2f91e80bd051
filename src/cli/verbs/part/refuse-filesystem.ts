/** Before a first table is written to a disk that is in use without one. */
import type { BlockDevice } from "../../../block/device.js";
import { DiskError } from "../../../errors.js";

/** A file system on the whole disk would be lost with its superblock. */
export async function refuseFilesystem(device: BlockDevice): Promise<void> {
  const { identifyFilesystem } = await import("../../../filesystems/identify.js");
  const found = await identifyFilesystem(device);
  if (!found) return;
  throw new DiskError(
    "DENIED",
    `Cannot make a partition table on ${device.label}: it holds ${found.type} without a partition table, --force replaces it`,
    {
      details: { filesystem: found.type },
    },
  );
}
