/** A disk drawn to scale in text: one box per partition and per free run. Pure; the caller prints it. */
import { fitWidth, printable } from "../bytes/printable.js";
import { formatSize } from "../bytes/size.js";
import { freeLogicalSpace, freeSpace } from "./free-space.js";
import type { Partition, PartitionTable } from "./table.js";

interface Segment {
  readonly offset: number;
  readonly size: number;
  /** null: free space. */
  readonly partition: Partition | null;
}

/** Free runs below this are alignment, not space: they are not drawn. */
const LEAST_FREE = 1 << 20;

/** Three lines of `width` columns or a little more: every box has room for its number. An extended partition is drawn as its contents. */
export function drawDisk(table: PartitionTable, width: number): string[] {
  const segments = segmentsOf(table);
  if (segments.length === 0) return [];
  const labels = segments.map(({ partition }) => (partition ? labelOf(partition) : ""));
  const widths = share(
    segments.map(({ size }) => size),
    segments.map(({ partition }) => (partition ? String(partition.number).length : 1)),
    width - segments.length - 1,
  );
  const rule = (left: string, middle: string, right: string) =>
    left + widths.map((columns) => "─".repeat(columns)).join(middle) + right;
  const body = segments.map(({ partition }, i) =>
    partition ? fitWidth(labels[i]!, widths[i]!) : free(segments[i]!, widths[i]!),
  );
  return [rule("┌", "┬", "┐"), `│${body.join("│")}│`, rule("└", "┴", "┘")];
}

/** Partitions and free runs in the order of the disk. */
export function segmentsOf(table: PartitionTable): Segment[] {
  const drawn = table.partitions.filter(({ kind, size }) => kind !== "extended" && size > 0);
  const runs = [...freeSpace(table), ...freeLogicalSpace(table)].filter(({ size }) => size >= LEAST_FREE);
  const used = drawn.map((partition) => ({ offset: partition.offset, size: partition.size, partition }));
  return [...used, ...runs.map((run) => ({ ...run, partition: null }))].sort((a, b) => a.offset - b.offset);
}

function labelOf({ number, name }: Partition): string {
  return name ? `${number} ${printable(name)}` : String(number);
}

/** Columns in proportion to the sizes, each with its least width. */
function share(sizes: readonly number[], least: readonly number[], columns: number): number[] {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const widths = sizes.map((size, i) => Math.max(least[i]!, Math.floor((size / total) * columns)));
  const rest = columns - widths.reduce((sum, value) => sum + value, 0);
  const largest = sizes.indexOf(sizes.reduce((max, size) => Math.max(max, size), 0));
  widths[largest] = Math.max(least[largest]!, widths[largest]! + rest);
  return widths;
}

function free(run: Segment, columns: number): string {
  const text = `free ${formatSize(run.size)}`;
  if (text.length + 2 > columns) return "·".repeat(columns);
  const left = Math.floor((columns - text.length) / 2);
  return `${"·".repeat(left - 1)} ${text} ${"·".repeat(columns - text.length - left - 1)}`;
}
