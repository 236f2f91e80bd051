/** Opens a disk with its partition table, for the verbs of `xvd part`. */
import type { Command } from "commander";
import type { BlockDevice } from "../../../block/device.js";
import { DiskError } from "../../../errors.js";
import { type PartitionTable, readPartitionTable, type SectorSize } from "../../../partitions/table.js";
import { withDisk as withOpenDisk } from "../../disk.js";
import { remark } from "../../print.js";

export interface DiskOptions {
  readonly format?: string;
  readonly forceShare?: boolean;
  readonly sectorSize?: SectorSize;
}

export function addDiskOptions(command: Command): Command {
  return command
    .option("-f, --format <fmt>", "image format (default: by extension; raw for .dsk .img .raw)")
    .option("--sector-size <bytes>", "512 or 4096 (default: found from the GPT; 512 for MBR)", parseSectorSize);
}

export function parseSectorSize(text: string): SectorSize {
  if (text === "512") return 512;
  if (text === "4096" || text.toLowerCase() === "4k") return 4096;
  throw new DiskError("UNSUPPORTED", `Cannot use sector size ${JSON.stringify(text)}: allowed are 512 and 4096`, {
    details: { usage: true },
  });
}

/** Runs `work` with the device of the open disk, and closes it whatever happens. */
export function withDisk<T>(
  name: string,
  { format, forceShare, writable, moving }: DiskOptions & { writable?: boolean; moving?: boolean },
  work: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  return withOpenDisk(name, { format, forceShare, writable, moving }, ({ device }) => work(device));
}

/** The disk's table. Throws `NOT_FOUND` when it has none. */
export async function requireTable(device: BlockDevice, options: DiskOptions): Promise<PartitionTable> {
  const table = await readPartitionTable(device, options.sectorSize ? { sectorSize: options.sectorSize } : {});
  if (table) return table;
  throw new DiskError(
    "NOT_FOUND",
    `Cannot find a partition table on ${device.label}: there is neither a GPT nor an MBR, xvd part init makes one`,
  );
}

/** Problems are diagnostics: stderr, also beside `--json`. */
export function warnProblems(disk: string, table: PartitionTable): void {
  for (const { message } of table.problems) remark(`xvd: warning: ${disk}: ${message}`);
}
