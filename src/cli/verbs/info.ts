/** `xvd info`: size, format, and what lies on a disk. The JSON has qemu-img's keys, and more. */
import type { Command } from "commander";
import { formatSize } from "../../bytes/size.js";
import type { Filesystem } from "../../filesystems/filesystem.js";
import type { DiskContents } from "../../stack/describe.js";
import type { OpenDisk } from "../../stack/disk.js";
import { addDiskOptions, type DiskFlags, withDisk } from "../disk.js";
import { columns, printJson, printLines } from "../print.js";

interface Flags extends DiskFlags {
  json?: boolean;
  backingChain?: boolean;
}

export default function info(command: Command): void {
  addDiskOptions(command.argument("<disk>", "guest.dsk, guest.dsk#p2, dom:web1/xvda, nbd://host/export"))
    .option("--backing-chain", "tell the images beneath as well (a list)")
    .action((disk: string, flags: Flags) => withDisk(disk, flags, (open) => run(disk, open, flags)));
}

async function run(text: string, disk: OpenDisk, flags: Flags): Promise<void> {
  const { describeDisk } = await import("../../stack/describe.js");
  const contents = await describeDisk(disk.device);
  const document = infoDocument(text, disk, contents);
  if (flags.json) printJson(flags.backingChain ? [document] : document);
  else printLines(infoLines(text, disk, contents));
}

function infoDocument(
  text: string,
  { device, format, file, whole }: OpenDisk,
  { table, partitions, filesystem, volumes, problems }: DiskContents,
) {
  return {
    filename: text,
    format,
    "virtual-size": device.size,
    ...(file && device === whole ? { "actual-size": file.file.allocatedSize() } : {}),
    "dirty-flag": false,
    ...(table ? { "partition-table": { label: table.label, id: table.id, "sector-size": table.sectorSize } } : {}),
    ...(table
      ? {
          partitions: partitions.map(({ filesystem: found, ...rest }) => ({
            ...rest,
            ...(found ? { filesystem: filesystemDocument(found) } : {}),
          })),
        }
      : {}),
    ...(filesystem ? { filesystem: filesystemDocument(filesystem) } : {}),
    ...(volumes.length > 0 ? { volumes } : {}),
    ...(problems.length > 0 ? { problems } : {}),
  };
}

function filesystemDocument({ type, label, uuid, version, size, used, blockSize }: Filesystem) {
  return { type, label, uuid, version, size, used, "block-size": blockSize };
}

function infoLines(text: string, { device, format, file, whole }: OpenDisk, contents: DiskContents): string[] {
  const { table, filesystem, problems } = contents;
  return [
    `disk: ${text}`,
    `format: ${format}`,
    `size: ${formatSize(device.size)} (${device.size} bytes)`,
    ...(file && device === whole ? [`stored: ${formatSize(file.file.allocatedSize())}`] : []),
    ...(filesystem ? [`file system: ${filesystemText(filesystem)}`] : []),
    ...(table
      ? [
          `partition table: ${table.label}, id ${table.id}, sectors of ${table.sectorSize} bytes`,
          ...partitionLines(contents),
        ]
      : []),
    ...volumeLines(contents),
    ...problems.map((problem) => `problem: ${problem}`),
  ];
}

function partitionLines({ partitions }: DiskContents): string[] {
  const rows = partitions.map(({ number, offset, size, name, filesystem }) => [
    `  p${number}`,
    formatSize(size),
    `at ${formatSize(offset)}`,
    name,
    filesystem ? filesystemText(filesystem) : "",
  ]);
  return columns(rows, [1]);
}

function volumeLines({ volumes }: DiskContents): string[] {
  if (volumes.length === 0) return [];
  const rows = volumes.map(({ name, size, type, partial }) => [
    `  ${name}`,
    formatSize(size),
    type,
    partial ? "partial: other disks belong to it" : "",
  ]);
  return ["logical volumes:", ...columns(rows, [1])];
}

function filesystemText({ type, label, uuid, size, used }: Filesystem): string {
  const room = size !== null && used !== null ? ` ${formatSize(used)} of ${formatSize(size)} used` : "";
  return `${type}${label === null ? "" : ` "${label}"`}${uuid === null ? "" : ` ${uuid}`}${room}`;
}
