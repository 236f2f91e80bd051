/** Every kind of partition table: one line here, one folder beside this file. The first one that says "mine" is believed. */
import { gpt } from "./gpt/index.js";
import { mbr } from "./mbr/index.js";
import type { Step } from "./step.js";
import type { PartitionTable, ReadTableOptions } from "./table.js";
import type { TableView } from "./view.js";

export interface EmptyTableOptions {
  readonly device: string;
  /** Bytes of the disk. */
  readonly size: number;
  readonly sectorSize: 512 | 4096;
  /** GPT: the disk's GUID; MBR: "0x1234abcd". */
  readonly id: string;
}

export interface TableFormat {
  /** As sfdisk names it. */
  readonly label: PartitionTable["label"];
  /** Names by which the command line knows it. */
  readonly names: readonly string[];
  readonly title: string;
  /** The table; null when the disk has none of this kind. Throws `CORRUPT` for a damaged one that is surely of this kind. */
  read(view: TableView, options: ReadTableOptions): Promise<PartitionTable | null>;
  /** A table without partitions, as a value. Throws `NO_SPACE` when the disk is too small. */
  empty(options: EmptyTableOptions): PartitionTable;
  /** A new identity: a GUID or a signature. */
  newId(random: (size: number) => Uint8Array): string;
  /** The writes that turn the disk's table `before` into `after`, in an order that survives a cut after any sector. */
  steps(before: PartitionTable | null, after: PartitionTable): Step[];
}

export const PARTITION_TABLES: readonly TableFormat[] = [gpt, mbr];

export function formatOf(table: PartitionTable): TableFormat {
  return PARTITION_TABLES.find(({ label }) => label === table.label)!;
}

/** The kind of table that the command line calls `name`, or undefined. */
export function findTableFormat(name: string): TableFormat | undefined {
  return PARTITION_TABLES.find(({ names }) => names.includes(name.toLowerCase()));
}
