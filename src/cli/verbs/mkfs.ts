/** `xvd mkfs`: a file system on a partition, by the system's tools, without root and without loop devices. */
import type { Command } from "commander";
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import type { OpenDisk } from "../../stack/disk.js";
import { withDisk } from "../disk.js";
import { refuseUse } from "../disk-users.js";
import { interruptible } from "../interrupt.js";
import { printJson, printLines } from "../print.js";

interface Flags {
  format?: string;
  label?: string;
  from?: string;
  force?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

export default function mkfs(command: Command): void {
  command
    .argument("<disk>", "the partition, guest.dsk#p1, or a whole disk")
    .argument("<type>", "ext4 ext3 ext2 vfat xfs swap btrfs")
    .option("-f, --format <format>", "format of the image; default by its extension")
    .option("--label <label>", "name of the file system")
    .option("--from <folder>", "fill it with the files of a folder (ext2, ext3, ext4, btrfs)")
    .option("--force", "overwrite a file system or partition table that is there")
    .option("--dry-run", "tell what would be done")
    .action((disk: string, type: string, flags: Flags) => run(disk, type, flags));
}

async function run(text: string, type: string, flags: Flags): Promise<void> {
  const { format, dryRun = false } = flags;
  await withDisk(text, { writable: !dryRun, ...(format ? { format } : {}) }, (disk) =>
    interruptible((signal) => make(text, disk, type, flags, signal)),
  );
}

async function make(text: string, disk: OpenDisk, type: string, flags: Flags, signal: AbortSignal): Promise<void> {
  const { makeFilesystem, checkMake } = await import("../../filesystems/make.js");
  const { json = false, dryRun = false, label, from } = flags;
  checkMake(type, flags);
  await refuseOverwriting(disk, flags);
  if (!dryRun) await refuseUse("make a file system on", text, null);
  const { device, offset, sectorSize } = disk;
  if (dryRun) {
    if (json) printJson({ disk: text, type, size: device.size, "dry-run": true });
    else printLines([`would make ${type} of ${formatSize(device.size)} on ${text}`]);
    return;
  }
  const made = await makeFilesystem(device, type, {
    ...(label === undefined ? {} : { label }),
    ...(from === undefined ? {} : { from }),
    partitionOffset: offset ?? 0,
    sectorSize: sectorSize ?? 512,
    scratch: await scratchFolder(disk),
    signal,
  });
  if (json)
    printJson({ disk: text, type: made.type, label: made.label, uuid: made.uuid, size: device.size, "dry-run": false });
  else
    printLines([
      `made ${made.type} on ${text}: ${formatSize(device.size)}, UUID ${made.uuid}${made.label === null ? "" : `, label "${made.label}"`}`,
    ]);
}

async function refuseOverwriting({ device, whole }: OpenDisk, { force }: Flags): Promise<void> {
  if (force) return;
  const { describeDisk } = await import("../../stack/describe.js");
  const { table, filesystem } = await describeDisk(device);
  const found = filesystem
    ? `it holds ${filesystem.type}${filesystem.label === null ? "" : ` "${filesystem.label}"`}`
    : table && device === whole
      ? `it has a partition table (${table.label}), a partition is named #p1`
      : undefined;
  if (found)
    throw new DiskError("DENIED", `Cannot make a file system on ${device.label}: ${found}, allowed with --force`, {
      details: { exists: true },
    });
}

/** Beside the image, where there is room for what will lie in it; else where temporary files go. */
async function scratchFolder({ file }: OpenDisk): Promise<string> {
  const { writableFolderOf } = await import("../../os/paths.js");
  const { tmpdir } = await import("node:os");
  return (file && !file.file.isBlockDevice && writableFolderOf(file.path)) || tmpdir();
}
