/**
 * The public API: the only file that users import.
 *
 *   const disk = await openDisk("guest.dsk", { writable: true });
 *   const table = await readPartitionTable(disk);
 *   await writePlan(disk, planAdd(table, { size: 64 << 20, type: "linux" }, randomBytes));
 *   await disk.close();
 */

export { formatSize, parseSize } from "./bytes/size.js";
export { DiskError, type ErrorCode, type ErrorDetails } from "./errors.js";

// Block devices: make one, wrap one, copy, compare.

export { byteGranular } from "./block/aligned.js";
export { type Checksum, type ChecksumOptions, checksumDevice } from "./block/checksum.js";
export { type CompareOptions, type Comparison, compareDevices } from "./block/compare.js";
export { type CopyOptions, type CopyResult, copyDevice } from "./block/copy.js";
export { type BlockDevice, type Driver, defineDevice, type Extent } from "./block/device.js";
export { type FileDevice, type FileDeviceOptions, openFileDevice } from "./block/file.js";
export { type Allocation, type Location, type Mapping, mapDevice } from "./block/mapped.js";
export { type MemoryOptions, memoryDevice } from "./block/memory.js";
export { nullDevice } from "./block/null.js";
export { type OverlayOptions, overlayDevice } from "./block/overlay.js";
export { type SliceOptions, slice } from "./block/slice.js";

// Disks by name, as on the command line.

export { createStaged, type StagedFile, type StagedOptions } from "./os/staged.js";
export { type DiskContents, describeDisk } from "./stack/describe.js";
export { type OpenDiskOptions, openDisk } from "./stack/disk.js";
export { type IdChange, renewIds } from "./stack/new-ids.js";

// Partition tables: read one, plan a change, look at the plan, write it.

export { type AddRequest, planAdd } from "./partitions/changes/add.js";
export { planApply } from "./partitions/changes/apply.js";
export { type ConvertRequest, planConvert } from "./partitions/changes/convert.js";
export { type InitRequest, planInit } from "./partitions/changes/init.js";
export { type MovePlan, type NewStart, planMove } from "./partitions/changes/move.js";
export { newPartitionIds, planNewIds } from "./partitions/changes/new-ids.js";
export { planRemove } from "./partitions/changes/remove.js";
export { planRepair, planSalvage, type SalvagePlan } from "./partitions/changes/repair.js";
export { type NewSize, planResize } from "./partitions/changes/resize.js";
export { planSet, type SetRequest } from "./partitions/changes/set.js";
export { type FreeRun, freeSpace } from "./partitions/free-space.js";
export { fileJournal, journalPath, type MoveJournal } from "./partitions/move/journal.js";
export { type MoveOptions, resumeMove, rollBackMove, runMove } from "./partitions/move/run.js";
export { describeSteps, type TablePlan } from "./partitions/plan.js";
export type { LayoutLine, TableLayout } from "./partitions/script/layout.js";
export { parseLayout } from "./partitions/script/parse.js";
export { printScript } from "./partitions/script/sfdisk-script.js";
export { type SfdiskTable, toSfdiskJson } from "./partitions/sfdisk-json.js";
export type { Step } from "./partitions/step.js";
export {
  findPartition,
  type GptTable,
  MAX_PARTITIONS,
  type MbrTable,
  openPartition,
  type Partition,
  type PartitionTable,
  type ReadTableOptions,
  readPartitionTable,
  type TableProblem,
} from "./partitions/table.js";
export { resolveType, typeAlias, typeName } from "./partitions/type-codes.js";
export { writePlan } from "./partitions/write.js";

// File systems.

export type { Filesystem } from "./filesystems/filesystem.js";
export { identifyFilesystem, newFilesystemId } from "./filesystems/identify.js";
export { type MakeOptions, makeFilesystem } from "./filesystems/make.js";

// Volume groups: look for them, plan a change, look at it, write it; a volume as a device.

export { type OpenVolumeOptions, openVolume } from "./lvm/activate.js";
export {
  type Allocation as ExtentAllocation,
  type AllocationRequest,
  allocateExtents,
  type PeRange,
} from "./lvm/allocate.js";
export { type CreateVolumeRequest, planCreateVolume } from "./lvm/changes/create-volume.js";
export { diffGroups } from "./lvm/changes/diff.js";
export {
  type CreateGroupRequest,
  type NewMember,
  planCreateGroup,
  planExtendGroup,
  planReduceGroup,
  planRenameGroup,
  planResizePv,
} from "./lvm/changes/group.js";
export { type GroupPlan, requireChangeable } from "./lvm/changes/plan.js";
export { planResizeVolume, type ResizeVolumeRequest } from "./lvm/changes/resize-volume.js";
export {
  type ChangeVolumeRequest,
  planChangeVolume,
  planRemoveVolume,
  planRenameVolume,
} from "./lvm/changes/volume.js";
export { checkGroup, unknownParts } from "./lvm/check-group.js";
export { type CommitStep, type GroupWrite, planCommit, runCommit } from "./lvm/commit.js";
export { type PvPlan, type PvRequest, planPv, writePv } from "./lvm/create-pv.js";
export { newId as newLvmId } from "./lvm/id.js";
export type { LogicalVolume, PhysicalVolume, Segment, VolumeGroup } from "./lvm/metadata.js";
export { printBackup, printGroup } from "./lvm/print-group.js";
export { readGroupText } from "./lvm/read-group.js";
export { type Candidate, type FoundGroup, type FoundPv, findGroup, type Scan, scanDevices } from "./lvm/scan.js";

// Network block devices.

export { connectNbd, type NbdClientOptions } from "./nbd/client.js";
export { type Export, type NbdServer, type NbdServerOptions, serveNbd } from "./nbd/server.js";

// The simulated Xen host.

export type { AttachedDevice, AttachRequest, Dom0Status, DomainInfo } from "./dom0/api-types.js";
export { Dom0Client, type Dom0ClientOptions } from "./dom0/client.js";
export { type XvdPaths, xvdPaths } from "./os/xvd-paths.js";
export { parseVdev, type Vdev, vdevFromNumber } from "./xen/blkif/vdev.js";
