/** `xvd info`: size, format, and what lies on a disk. The JSON has qemu-img's keys, and more. */
import type { Command } from "commander";
import { formatSize } from "../../bytes/size.js";
import type { Filesystem } from "../../filesystems/filesystem.js";
import type { ImageFacts } from "../../formats/format.js";
import type { DiskContents } from "../../stack/describe.js";
import type { OpenDisk } from "../../stack/disk.js";
import { addDiskOptions, type DiskFlags, withDisk } from "../disk.js";
import { columns, printJson, printLines } from "../print.js";
import { snapshotLines } from "../snapshots.js";

interface Flags extends DiskFlags {
  json?: boolean;
  backingChain?: boolean;
}

export default function info(command: Command): void {
  addDiskOptions(command.argument("<disk>", "guest.dsk, guest.dsk#p2, dom:web1/xvda, nbd://host/export"))
    .option("--backing-chain", "tell the images beneath as well (a list)")
    .action((disk: string, flags: Flags) =>
      withDisk(disk, { ...flags, sealed: !flags.allowBacking }, (open) => run(disk, open, flags)),
    );
}

async function run(text: string, disk: OpenDisk, flags: Flags): Promise<void> {
  const { describeDisk } = await import("../../stack/describe.js");
  const { backingChain, imageDocument } = await import("../../stack/image-facts.js");
  // What lies on an overlay is told only when the images beneath it may be read.
  const contents = disk.image?.image.backing && !flags.allowBacking ? NOTHING : await describeDisk(disk.device);
  const document = infoDocument(text, disk, contents, imageDocument(disk));
  if (!flags.backingChain) {
    if (flags.json) printJson(document);
    else printLines(infoLines(text, disk, contents));
    return;
  }
  const chain = [document];
  const lines = infoLines(text, disk, contents);
  for await (const { path, format, image, file } of backingChain(disk, flags)) {
    const beneath = { device: image, whole: image, format, file, image };
    chain.push(infoDocument(path, beneath, NOTHING, imageDocument(beneath)));
    lines.push("", ...infoLines(path, beneath, NOTHING));
  }
  if (flags.json) printJson(chain);
  else printLines(lines);
}

const NOTHING: DiskContents = { table: null, partitions: [], filesystem: null, volumes: [], problems: [] };

type ToldDisk = Pick<OpenDisk, "device" | "whole" | "format" | "file" | "image">;

function infoDocument(
  text: string,
  { device, format, file, whole, image }: ToldDisk,
  { table, partitions, filesystem, volumes, problems }: DiskContents,
  ofImage: Record<string, unknown>,
): Record<string, unknown> {
  return {
    filename: text,
    format,
    "virtual-size": device.size,
    ...(file && device === whole ? { "actual-size": file.file.allocatedSize() } : {}),
    "dirty-flag": image?.image.dirty ?? false,
    ...(device === whole ? ofImage : {}),
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

function infoLines(text: string, { device, format, file, whole, image }: ToldDisk, contents: DiskContents): string[] {
  const { table, filesystem, problems } = contents;
  return [
    `disk: ${text}`,
    `format: ${format}`,
    `size: ${formatSize(device.size)} (${device.size} bytes)`,
    ...(file && device === whole ? [`stored: ${formatSize(file.file.allocatedSize())}`] : []),
    ...(image && device === whole ? factLines(image.image) : []),
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

function factLines({ clusterSize, backing, dirty, snapshots, formatSpecific }: ImageFacts): string[] {
  const details = Object.entries(formatSpecific?.data ?? {}).filter(([, value]) => typeof value !== "object");
  return [
    ...(clusterSize === null ? [] : [`cluster size: ${formatSize(clusterSize)}`]),
    ...(backing ? [`backing file: ${backing.name} (${backing.format ?? "format not recorded"})`] : []),
    ...(dirty ? ["dirty: it was not closed, and is mended when it is opened for writing"] : []),
    ...(details.length > 0
      ? [`${formatSpecific!.type}: ${details.map(([key, value]) => `${key} ${value}`).join(", ")}`]
      : []),
    ...(snapshots.length > 0 ? ["snapshots:", ...snapshotLines(snapshots)] : []),
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
