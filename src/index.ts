/**
 * The public API: the only file that users import.
 *
 *   const disk = await openDisk("guest.dsk", { writable: true });
 *   const table = await readPartitionTable(disk);
 *   await writePlan(disk, planAdd(table, { size: 64 << 20, type: "linux" }, randomBytes));
 *   await disk.close();
 */
export { DiskError, type ErrorCode, type ErrorDetails } from "./errors.js";
export { formatSize, parseSize } from "./bytes/size.js";

// Block devices: make one, wrap one, copy, compare.
export { type BlockDevice, defineDevice, type Driver, type Extent } from "./block/device.js";
export { type Allocation, type Location, mapDevice, type Mapping } from "./block/mapped.js";
export { byteGranular } from "./block/aligned.js";
export { type Checksum, checksumDevice, type ChecksumOptions } from "./block/checksum.js";
export { compareDevices, type CompareOptions, type Comparison } from "./block/compare.js";
export { copyDevice, type CopyOptions, type CopyResult } from "./block/copy.js";
export { type FileDevice, type FileDeviceOptions, openFileDevice } from "./block/file.js";
export { memoryDevice, type MemoryOptions } from "./block/memory.js";
export { nullDevice } from "./block/null.js";
export { overlayDevice, type OverlayOptions } from "./block/overlay.js";
export { slice, type SliceOptions } from "./block/slice.js";

// Disks by name, as on the command line.
export { openDisk, type OpenDiskOptions } from "./stack/disk.js";
export { describeDisk, type DiskContents } from "./stack/describe.js";
export { type IdChange, renewIds } from "./stack/new-ids.js";
export { createStaged, type StagedFile, type StagedOptions } from "./os/staged.js";

// Partition tables: read one, plan a change, write the plan.
export {
  findPartition,
  type GptTable,
  MAX_PARTITIONS,
  type MbrTable,
  openPartition,
  type Partition,
  type PartitionTable,
  readPartitionTable,
  type ReadTableOptions,
  type TableProblem,
} from "./partitions/table.js";
export { describeSteps, type TablePlan } from "./partitions/plan.js";
export { writePlan } from "./partitions/write.js";
export { type AddRequest, planAdd } from "./partitions/changes/add.js";
export { type InitRequest, planInit } from "./partitions/changes/init.js";
export { planRemove } from "./partitions/changes/remove.js";

// File systems.
export { type Filesystem } from "./filesystems/filesystem.js";
export { identifyFilesystem, newFilesystemId } from "./filesystems/identify.js";
export { makeFilesystem, type MakeOptions } from "./filesystems/make.js";

// Network block devices.
export { connectNbd, type NbdClientOptions } from "./nbd/client.js";
export { type Export, type NbdServer, type NbdServerOptions, serveNbd } from "./nbd/server.js";

// The simulated Xen host.
export type { AttachedDevice, AttachRequest, Dom0Status, DomainInfo } from "./dom0/api-types.js";
export { Dom0Client, type Dom0ClientOptions } from "./dom0/client.js";
export { parseVdev, type Vdev, vdevFromNumber } from "./xen/blkif/vdev.js";
