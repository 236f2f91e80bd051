/** Where a new partition can go: the runs between the others, and the choice of a place in them. */
import { alignDown, alignUp } from "../bytes/align.js";
import { formatSize } from "../bytes/size.js";
import { DiskError } from "../errors.js";
import type { Partition, PartitionTable } from "./table.js";

/** What partitions start at unless asked otherwise: a multiple of every physical block, stripe and erase size in use. */
export const ALIGNMENT = 1 << 20;

export interface FreeRun {
  readonly offset: number; // bytes
  readonly size: number; // bytes, above 0
}

/** Free runs outside of extended partitions, ascending, in whole sectors. */
export function freeSpace(table: PartitionTable): FreeRun[] {
  const { sectorSize } = table;
  const start = table.firstUsableLba * sectorSize;
  const end = Math.min((table.lastUsableLba + 1) * sectorSize, alignDown(table.size, sectorSize));
  return gaps(
    start,
    end,
    table.partitions.filter(({ kind }) => kind !== "logical"),
  );
}

/** Free runs within the extended partition. Each still has to hold the new partition's EBR as well. */
export function freeLogicalSpace(table: PartitionTable): FreeRun[] {
  const extended = table.partitions.find(({ kind }) => kind === "extended");
  if (!extended) return [];
  const logical = table.partitions.filter(({ kind }) => kind === "logical");
  return gaps(extended.offset, Math.min(extended.offset + extended.size, table.size), [
    ...logical,
    ...ebrSectors(table, extended),
  ]);
}

/** The first EBR's fixed place, and the EBRs of partitions that are where the disk has them. */
function ebrSectors(table: PartitionTable, extended: Partition): FreeRun[] {
  const { sectorSize } = table;
  const chain = table.label === "dos" ? table.onDisk.chain : [];
  const inUse = chain.filter(({ dataLba }) =>
    table.partitions.some(({ kind, offset }) => kind === "logical" && offset / sectorSize === dataLba),
  );
  return [extended.offset, ...inUse.map(({ lba }) => lba * sectorSize)].map((offset) => ({ offset, size: sectorSize }));
}

function gaps(start: number, end: number, taken: readonly Pick<Partition, "offset" | "size">[]): FreeRun[] {
  const runs: FreeRun[] = [];
  let from = start;
  for (const { offset, size } of [...taken].sort((a, b) => a.offset - b.offset)) {
    if (offset > from) runs.push({ offset: from, size: Math.min(offset, end) - from });
    from = Math.max(from, offset + size);
    if (from >= end) break;
  }
  if (end > from) runs.push({ offset: from, size: end - from });
  return runs.filter(({ size }) => size > 0);
}

export interface PlaceRequest {
  /** Bytes; default: the first aligned place that is large enough. */
  readonly start?: number | undefined;
  /** Bytes, or "all": to the end of the run (the largest one, when no start is given). */
  readonly size: number | "all";
  readonly sectorSize: number;
  /** What it is for, for messages: `add a partition to "a.dsk"`. */
  readonly purpose: string;
}

/** Chooses a place. Throws `NO_SPACE` when nothing fits, with what is free; `UNSUPPORTED` for a start between two sectors. */
export function place(free: readonly FreeRun[], request: PlaceRequest): FreeRun {
  const { start, sectorSize } = request;
  if (start !== undefined) {
    if (start % sectorSize !== 0)
      throw usage(request, `start ${start} is no multiple of the sector size ${sectorSize}`);
    const run = free.find(({ offset, size }) => start >= offset && start < offset + size);
    if (!run) throw noSpace(request, `byte ${start} (${formatSize(start)}) is used or outside the usable space`, free);
    return fit({ offset: start, size: run.offset + run.size - start }, request, free);
  }
  const runs = free.map(alignStart).filter(({ size }) => size > 0);
  if (request.size === "all") {
    const largest = runs.reduce<FreeRun | undefined>(
      (best, run) => (best && best.size >= run.size ? best : run),
      undefined,
    );
    if (!largest) throw noSpace(request, "there is no free space", free);
    return fit(largest, request, free);
  }
  const wanted = alignUp(request.size, sectorSize);
  const run = runs.find(({ size }) => size >= wanted);
  if (!run) throw noSpace(request, `${formatSize(wanted)} fit nowhere`, free);
  return fit(run, request, free);
}

function alignStart({ offset, size }: FreeRun): FreeRun {
  const aligned = alignUp(offset, ALIGNMENT);
  return { offset: aligned, size: offset + size - aligned };
}

function fit(run: FreeRun, request: PlaceRequest, free: readonly FreeRun[]): FreeRun {
  if (request.size === "all") {
    const end = alignDown(run.offset + run.size, ALIGNMENT);
    return end > run.offset ? { offset: run.offset, size: end - run.offset } : run;
  }
  if (!(request.size > 0)) throw usage(request, `size ${request.size} is not above 0`);
  const size = alignUp(request.size, request.sectorSize);
  if (size > run.size)
    throw noSpace(
      request,
      `${formatSize(size)} at byte ${run.offset} would overlap what lies behind the ${formatSize(run.size)} that are free there`,
      free,
    );
  return { offset: run.offset, size };
}

function usage({ purpose }: PlaceRequest, found: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot ${purpose}: ${found}`, { details: { usage: true } });
}

function noSpace({ purpose }: PlaceRequest, found: string, free: readonly FreeRun[]): DiskError {
  const largest = free.reduce((best, { size }) => Math.max(best, size), 0);
  return new DiskError("NO_SPACE", `Cannot ${purpose}: ${found}, the largest free space has ${formatSize(largest)}`, {
    details: { largestFree: largest },
  });
}
