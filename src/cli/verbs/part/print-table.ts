/** The listing for people: every partition with what was found in it, and the disk to scale. */
import type { BlockDevice } from "../../../block/device.js";
import { printable } from "../../../bytes/printable.js";
import { formatSize } from "../../../bytes/size.js";
import { identifyFilesystem } from "../../../filesystems/identify.js";
import { printAttributes } from "../../../partitions/attributes.js";
import { drawDisk, segmentsOf } from "../../../partitions/picture.js";
import { openPartition, type Partition, type PartitionTable } from "../../../partitions/table.js";
import { typeName } from "../../../partitions/type-codes.js";
import { columns as inColumns } from "../../print.js";

const MAX_WIDTH = 120;

export async function printTable(
  disk: string,
  device: BlockDevice,
  table: PartitionTable,
  columns: number,
): Promise<string[]> {
  const width = Math.min(columns, MAX_WIDTH);
  const { label, id, sectorSize, partitions } = table;
  const count = partitions.length === 1 ? "1 partition" : `${partitions.length} partitions`;
  const head = `${disk}: ${label === "gpt" ? "GPT" : "MBR"}, ${formatSize(table.size)}, ${count}, sectors of ${sectorSize} bytes, id ${id}`;
  const rows: string[][] = [["", "START", "SIZE", "TYPE", "CONTENTS", "NAME"]];
  for (const { partition, offset, size } of rowsOf(table)) {
    const place = [formatSize(offset), formatSize(size)];
    if (partition)
      rows.push([
        `${partition.number}${partition.bootable ? "*" : ""}`,
        ...place,
        typeName(label, partition.type),
        await contents(device, table, partition),
        nameOf(partition),
      ]);
    else rows.push(["", ...place, "free", "", ""]);
  }
  return [head, ...align(rows), ...drawDisk(table, width)];
}

/** Partitions with the free runs between them; an extended partition stands before its contents. */
function rowsOf(table: PartitionTable): { partition: Partition | null; offset: number; size: number }[] {
  const extended = table.partitions.filter(({ kind }) => kind === "extended");
  const rows = [
    ...extended.map((partition) => ({ partition, offset: partition.offset, size: partition.size })),
    ...segmentsOf(table),
  ];
  return rows.sort((a, b) => a.offset - b.offset || b.size - a.size);
}

function nameOf({ name, attributes }: Partition): string {
  const attrs = printAttributes(attributes);
  return printable(name) + (attrs ? `${name ? " " : ""}[${attrs}]` : "");
}

/** `ext4 "root" 1.2 GiB used`; empty when nothing is known there, or the partition reaches past the disk. */
async function contents(
  device: BlockDevice,
  table: PartitionTable,
  { number, kind, offset, size }: Partition,
): Promise<string> {
  if (kind === "extended" || offset + size > device.size) return "";
  const found = await identifyFilesystem(openPartition(device, table, number));
  if (!found) return "";
  const label = found.label === null ? "" : ` "${printable(found.label)}"`;
  return `${found.type}${label}${found.used === null ? "" : `, ${formatSize(found.used)} used`}`;
}

/** Columns as wide as their widest cell, sizes to the right; the last two only where something is in them. */
function align(rows: readonly string[][]): string[] {
  const used = rows[0]!.map((_, column) => column < 4 || rows.slice(1).some((row) => row[column] !== ""));
  const shown = rows.map((row) => row.filter((_, column) => used[column]));
  return inColumns(shown, [1, 2]);
}
