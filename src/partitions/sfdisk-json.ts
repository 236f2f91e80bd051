/** A table as `sfdisk --json` prints it, and its partitions' node names. */
import { printAttributes } from "./attributes.js";
import { ENTRY_COUNT } from "./gpt/layout.js";
import type { GptTable, PartitionTable } from "./table.js";

export interface SfdiskPartition {
  node: string;
  /** Sectors. */
  start: number;
  /** Sectors. */
  size: number;
  type: string;
  uuid?: string;
  name?: string;
  attrs?: string;
  bootable?: boolean;
}

export interface SfdiskTable {
  label: string;
  id: string;
  device: string;
  unit: "sectors";
  firstlba?: number;
  lastlba?: number;
  /** Entries of the array, as text, when they are not 128. */
  "table-length"?: string;
  sectorsize: number;
  partitions: SfdiskPartition[];
}

/** `disk` as the user named it. Fields that are empty are left out, as sfdisk does. */
export function toSfdiskJson(table: PartitionTable, disk: string): { partitiontable: SfdiskTable } {
  const { label, id, sectorSize } = table;
  const usable =
    table.label === "gpt"
      ? { firstlba: table.firstUsableLba, lastlba: table.lastUsableLba, ...tableLength(table) }
      : {};
  const partitions = table.partitions.map((partition): SfdiskPartition => {
    const attrs = printAttributes(partition.attributes);
    return {
      node: nodeName(disk, partition.number),
      start: partition.offset / sectorSize,
      size: partition.size / sectorSize,
      type: partition.type,
      ...(partition.uuid === null ? {} : { uuid: partition.uuid }),
      ...(partition.name ? { name: partition.name } : {}),
      ...(attrs ? { attrs } : {}),
      ...(label === "dos" && partition.bootable ? { bootable: true } : {}),
    };
  });
  return {
    partitiontable: { label, id, device: disk, unit: "sectors", ...usable, sectorsize: sectorSize, partitions },
  };
}

function tableLength(table: GptTable): { "table-length"?: string } {
  const { entryCount } = table.onDisk;
  return entryCount === ENTRY_COUNT ? {} : { "table-length": String(entryCount) };
}

/** `a.dsk3`; with a `p` between when the disk's name ends in a digit: `disk1p3`. */
export function nodeName(disk: string, number: number): string {
  return `${disk}${/\d$/.test(disk) ? "p" : ""}${number}`;
}
