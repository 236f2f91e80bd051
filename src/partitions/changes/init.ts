/** A new, empty partition table. */
import type { BlockDevice } from "../../block/device.js";
import { alignDown } from "../../bytes/align.js";
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import { ALIGNMENT } from "../free-space.js";
import { makePlan, type TablePlan, usageError } from "../plan.js";
import { findTableFormat } from "../registry.js";
import { FLUSH, type Step } from "../step.js";
import type { PartitionTable, SectorSize } from "../table.js";

export interface InitRequest {
  /** `gpt`, or `mbr` (also `dos`). */
  readonly format: string;
  readonly sectorSize?: SectorSize | undefined;
  /** Replaces a table that is there. */
  readonly force?: boolean | undefined;
  /** Identity of the disk; default: a new one. */
  readonly id?: string | undefined;
}

/** `before` is the disk's table, null when it has none. Throws `DENIED` when there is one and `force` is not given. */
export function planInit(
  disk: Pick<BlockDevice, "label" | "size">,
  before: PartitionTable | null,
  request: InitRequest,
  random: (size: number) => Uint8Array,
): TablePlan {
  const format = findTableFormat(request.format);
  if (!format)
    throw usageError(
      `Cannot make a partition table of kind ${JSON.stringify(request.format)}: allowed are gpt and mbr`,
    );
  if (before && !request.force) {
    const found = `it has a ${before.label} table with ${before.partitions.length} partitions`;
    throw new DiskError("DENIED", `Cannot make a partition table on ${disk.label}: ${found}, --force replaces it`, {
      details: { label: before.label, partitions: before.partitions.length },
    });
  }
  const sectorSize = request.sectorSize ?? 512;
  const after = format.empty({
    device: disk.label,
    size: disk.size,
    sectorSize,
    id: request.id ?? format.newId(random),
  });
  const hybrid = before?.problems.some(({ code }) => code === "hybrid-mbr") ? " and its hybrid MBR" : "";
  const replaced = before
    ? [`remove the ${before.label} table with ${before.partitions.length} partitions${hybrid}`]
    : [];
  const made = `make an empty ${after.label} table, id ${after.id}, for ${formatSize(disk.size)} in sectors of ${sectorSize}`;
  const plan = makePlan(before, after, [...replaced, made]);
  return { ...plan, steps: [...plan.steps, ...clearSignatures(after)] };
}

/** What lay at the disk's start before (a superblock, a boot loader) would go on being found beside the new table. */
function clearSignatures(table: PartitionTable): Step[] {
  const from = table.label === "gpt" ? table.firstUsableLba * table.sectorSize : 512;
  const to = Math.min(ALIGNMENT, (table.lastUsableLba + 1) * table.sectorSize, alignDown(table.size, table.sectorSize));
  return to > from
    ? [{ kind: "zero", offset: from, length: to - from, what: "clear what lay before the first partition" }, FLUSH]
    : [];
}
