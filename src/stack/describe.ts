/** What lies on a disk: partition table, partitions, file systems. For `info`; nothing is judged, damage is told and not thrown. */
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import type { Filesystem } from "../filesystems/filesystem.js";
import { identifyFilesystem } from "../filesystems/identify.js";
import { openPartition, type Partition, type PartitionTable, readPartitionTable } from "../partitions/table.js";

export interface DescribedPartition
  extends Pick<Partition, "number" | "offset" | "size" | "type" | "uuid" | "name" | "kind" | "bootable"> {
  readonly filesystem: Filesystem | null;
}

export interface DiskContents {
  readonly table: PartitionTable | null;
  readonly partitions: readonly DescribedPartition[];
  /** On the whole disk; looked for only when there is no partition table. */
  readonly filesystem: Filesystem | null;
  /** What is damaged or unusual, a sentence each. */
  readonly problems: readonly string[];
}

export async function describeDisk(device: BlockDevice): Promise<DiskContents> {
  const problems: string[] = [];
  const table = await tolerant(() => readPartitionTable(device), problems);
  if (!table)
    return {
      table: null,
      partitions: [],
      filesystem: await tolerant(() => identifyFilesystem(device), problems),
      problems,
    };
  problems.push(...table.problems.map(({ message }) => message));
  const partitions: DescribedPartition[] = [];
  for (const { number, offset, size, type, uuid, name, kind, bootable } of table.partitions) {
    const find = () => identifyFilesystem(openPartition(device, table, number));
    const filesystem = kind === "extended" ? null : await tolerant(find, problems);
    partitions.push({ number, offset, size, type, uuid, name, kind, bootable, filesystem });
  }
  return { table, partitions, filesystem: null, problems };
}

/** Damage of one thing must not hide the others. */
async function tolerant<T>(work: () => Promise<T>, problems: string[]): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof DiskError) || error.code !== "CORRUPT") throw error;
    problems.push(error.message);
    return null;
  }
}
