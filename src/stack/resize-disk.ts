/**
 * A disk made larger or smaller, as a file or while a guest uses it. A GPT's backup goes with the disk's end.
 *
 * Order when growing: the disk grows, flush, the table's writes. When shrinking: the table's writes, flush, the disk is cut.
 * After a cut between them the disk is as large as the larger of both sizes and its primary GPT is good.
 */
import type { BlockDevice } from "../block/device.js";
import { isZero } from "../bytes/align.js";
import { formatSize } from "../bytes/size.js";
import { DiskError } from "../errors.js";
import { identifyFilesystem } from "../filesystems/identify.js";
import { isResizable, type ResizableImage } from "../formats/extensions.js";
import { planResize } from "../partitions/changes/resize.js";
import { settle } from "../partitions/changes/settle.js";
import { describeSteps, makePlan, type TablePlan } from "../partitions/plan.js";
import { findPartition, type GptTable, type PartitionTable, readPartitionTable } from "../partitions/table.js";
import { writePlan } from "../partitions/write.js";
import type { OpenDisk } from "./disk.js";

export interface ResizeOptions {
  /** Allow a smaller size. */
  readonly shrink?: boolean;
  readonly dryRun?: boolean;
  /** Number of a partition that takes the new space too. */
  readonly grow?: number;
}

export interface ResizedDisk {
  readonly oldSize: number;
  readonly newSize: number;
  /** What was, or would be, done. */
  readonly steps: readonly string[];
}

/** A disk, wherever its size is changed. */
export interface ResizableDisk {
  readonly device: BlockDevice;
  /** Throws unless the disk can be made that large; `DENIED` when bytes behind a smaller size belong to somebody. Changes nothing. */
  refuse(newSize: number): Promise<void>;
  /** Returns the disk in its new size; `device` is not to be used any more. */
  resize(newSize: number): Promise<BlockDevice>;
}

/** An image file with what lies on it. */
export function resizeDisk(disk: OpenDisk, newSize: number, options: ResizeOptions = {}): Promise<ResizedDisk> {
  const { device } = disk;
  const resizable: ResizableDisk = {
    device,
    refuse: (size) => refuseFile(disk, size, options),
    async resize(size) {
      await resizeImage(disk, size);
      return device;
    },
  };
  return resizeAll(resizable, newSize, options);
}

/** The file alone, after what lies on it was moved out of the way. With `dryRun` only the refusals. */
export async function resizeFile(disk: OpenDisk, newSize: number, options: ResizeOptions): Promise<void> {
  await refuseFile(disk, newSize, options);
  if (options.dryRun) return;
  await resizeImage(disk, newSize);
}

async function resizeImage({ image, device }: OpenDisk, size: number): Promise<void> {
  await (image as ResizableImage).resize(size); // refuseFile has looked
  await device.flush();
}

/** The disk and what lies on it. */
export async function resizeAll(
  disk: ResizableDisk,
  newSize: number,
  options: ResizeOptions = {},
): Promise<ResizedDisk> {
  const { device } = disk;
  const oldSize = device.size;
  await disk.refuse(newSize);
  if (newSize === oldSize) return { oldSize, newSize, steps: ["nothing to do"] };
  const table = await readPartitionTable(device);
  if (table) refuseDamaged(disk, table);
  if (options.grow !== undefined) refuseGrow(disk, table, options.grow, newSize);
  const steps: string[] = [
    `${newSize > oldSize ? "grow" : "shrink"} ${device.label} from ${oldSize} to ${newSize} bytes`,
  ];
  const plan =
    options.grow === undefined
      ? table && movedEnd(table, newSize)
      : planResize({ ...table!, size: newSize }, options.grow, "all");
  const writeTable = async (on: BlockDevice) => {
    if (!table || !plan) return;
    await writePlan(on, plan);
    await on.flush();
    await clearOldBackup(on, table, oldSize, newSize);
    await on.flush();
  };
  if (newSize > oldSize) {
    if (!options.dryRun) await writeTable(await disk.resize(newSize));
    return { oldSize, newSize, steps: [...steps, ...stepsOf(plan)] };
  }
  if (!options.dryRun) {
    await writeTable(device);
    await disk.resize(newSize);
  }
  return { oldSize, newSize, steps: [...stepsOf(plan), ...steps] };
}

async function refuseFile(disk: OpenDisk, newSize: number, options: ResizeOptions): Promise<void> {
  refuse(disk, newSize, options);
  if (newSize >= disk.device.size) return;
  const table = await readPartitionTable(disk.device);
  if (table) refuseDamaged(disk, table);
  if (table && options.grow !== undefined) refuseGrow(disk, table, options.grow, newSize);
  if (table) refuseCutPartitions(disk, table, newSize);
  else await refuseCutFilesystem(disk, newSize);
  await refuseCutData(disk, newSize, table);
}

function refuse(
  { device, whole, file, image, format }: OpenDisk,
  newSize: number,
  { shrink = false }: ResizeOptions,
): void {
  const reason =
    device !== whole
      ? "it is a part of a disk, allowed are whole image files"
      : !file
        ? "it is no image file"
        : file.file.isBlockDevice
          ? "it is a block device"
          : !isResizable(image!)
            ? `${format} images of its kind keep their size`
            : undefined;
  if (reason) throw new DiskError("UNSUPPORTED", `Cannot resize ${device.label}: ${reason}`);
  if (newSize < device.size && !shrink)
    throw new DiskError(
      "DENIED",
      `Cannot resize ${device.label}: the new size ${newSize} is below the present ${device.size} bytes, allowed with --shrink`,
    );
}

/** Before anything is changed: a partition of that number that the new space is next to. */
function refuseGrow(
  { device }: Pick<OpenDisk, "device">,
  table: PartitionTable | null,
  number: number,
  newSize: number,
): void {
  const subject = `Cannot grow partition ${number} of ${device.label}`;
  if (!table) throw new DiskError("NOT_FOUND", `${subject}: the disk has no partition table`);
  if (newSize < device.size) throw new DiskError("UNSUPPORTED", `${subject}: the disk would be shrunk`);
  const partition = findPartition(table, number);
  const behind = table.partitions.find(
    ({ offset, kind }) => offset >= partition.offset + partition.size && kind !== "logical",
  );
  if (behind)
    throw new DiskError("NO_SPACE", `${subject}: partition ${behind.number} lies between it and the end of the disk`);
}

/** The primary GPT is what a reader finds when a cut leaves the backup not at the disk's end, so it has to be good. */
function refuseDamaged({ device }: Pick<OpenDisk, "device">, table: PartitionTable): void {
  const damage = table.problems.find(({ code }) => code === "recovered-from-backup" || code === "copies-differ");
  if (damage)
    throw new DiskError("DENIED", `Cannot resize ${device.label}: ${damage.message}; 'xvd part repair' mends it`, {
      details: { problem: damage.code },
    });
}

/** The table with its end at the disk's new end; null when nothing of it has to move. */
function movedEnd(table: PartitionTable, newSize: number): TablePlan | null {
  const { table: moved, summary } = settle({ ...table, size: newSize });
  return summary.length === 0 ? null : makePlan(table, moved, summary);
}

/**
 * The backup GPT at the old end would look like somebody's data later on. Only where no partition lies, also in a foreign
 * table, and where the new backup does not lie.
 */
async function clearOldBackup(
  device: BlockDevice,
  table: PartitionTable,
  oldSize: number,
  newSize: number,
): Promise<void> {
  if (table.label !== "gpt") return;
  const { start, end } = backupRange(table);
  const taken = table.partitions.some(({ offset, size }) => offset < end && offset + size > start);
  if (end > oldSize || oldSize - end >= table.sectorSize || taken) return;
  const newEnd = newSize - (newSize % table.sectorSize);
  const from = newSize < oldSize ? Math.max(start, newEnd) : start;
  const to = newSize < oldSize ? end : Math.min(end, newEnd - (end - start));
  if (from < to) await device.zero(from, to - from);
}

/** Bytes of the backup entry array and header. */
function backupRange({ onDisk, sectorSize }: GptTable): { start: number; end: number } {
  const blocks = Math.ceil((onDisk.entryCount * onDisk.entrySize) / sectorSize);
  return { start: Math.max(0, (onDisk.backupLba - blocks) * sectorSize), end: (onDisk.backupLba + 1) * sectorSize };
}

function stepsOf(plan: TablePlan | null): string[] {
  return plan ? [...plan.summary, ...describeSteps(plan)] : [];
}

function refuseCutPartitions({ device }: OpenDisk, table: PartitionTable, newSize: number): void {
  const cut = table.partitions.filter(({ offset, size }) => offset + size > newSize);
  if (cut.length === 0) return;
  const end = Math.max(...cut.map(({ offset, size }) => offset + size));
  const numbers = cut.map(({ number }) => number);
  throw new DiskError(
    "DENIED",
    `Cannot shrink ${device.label} to ${newSize} bytes: partition ${numbers.join(", ")} would be cut, allowed from ${end} bytes on`,
    { details: { numbers, end } },
  );
}

async function refuseCutFilesystem({ device }: OpenDisk, newSize: number): Promise<void> {
  const filesystem = await identifyFilesystem(device);
  if (!filesystem?.size || filesystem.size <= newSize || filesystem.size > device.size) return;
  throw new DiskError(
    "DENIED",
    `Cannot shrink ${device.label} to ${newSize} bytes: it holds ${filesystem.type} of ${formatSize(filesystem.size)}, which has to be shrunk first`,
  );
}

/** Bytes that are not zero behind the new end, beside the old backup GPT, belong to somebody. */
async function refuseCutData(disk: OpenDisk, newSize: number, table: PartitionTable | null): Promise<void> {
  const { size } = disk.device;
  if (table?.label !== "gpt") return refuseData(disk, newSize, size, newSize);
  const { start, end } = backupRange(table);
  const [backupStart, backupEnd] = [Math.min(size, start), Math.min(size, end)];
  await refuseData(disk, newSize, backupStart, newSize);
  await refuseData(disk, Math.max(newSize, backupEnd), size, newSize);
}

async function refuseData({ device }: OpenDisk, start: number, end: number, newSize: number): Promise<void> {
  if (start >= end) return;
  const buffer = new Uint8Array(1 << 20);
  for await (const extent of device.extents(start, end - start)) {
    if (extent.zero) continue;
    for (let at = extent.offset; at < extent.offset + extent.length; at += buffer.length) {
      const bytes = buffer.subarray(0, Math.min(buffer.length, extent.offset + extent.length - at));
      await device.read(at, bytes);
      if (isZero(bytes)) continue;
      const offset = at + bytes.findIndex((byte) => byte !== 0);
      const found = `byte ${offset} holds data, which would be cut`;
      throw new DiskError("DENIED", `Cannot shrink ${device.label} to ${newSize} bytes: ${found}`, {
        details: { offset },
      });
    }
  }
}
