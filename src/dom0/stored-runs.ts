/** What of an attached disk is stored, as Dom0 tells it to the disk's guest: sectors that the guest sees, no more. */
import type { BlockDevice } from "../block/device.js";
import { RunList } from "../nbd/allocation.js";
import { STATE } from "../nbd/codes.js";
import type { DiskFacts } from "../xen/blkback.js";
import type { StoredRun } from "../xen/blkfront-extents.js";

const MAX_RUNS = 1024;
/** Runs of the device that one answer looks at: neighbours of one kind become one run, so it may be many more than are told. */
const MAX_LOOKS = 4096;

/**
 * The runs from `offset` on, which may end before the range does; none where the range is no part of the disk.
 * Whole sectors each: one that is stored in part is data.
 */
export async function storedRuns(
  device: BlockDevice,
  { size, sectorSize }: Pick<DiskFacts, "size" | "sectorSize">,
  offset: number,
  length: number,
): Promise<readonly StoredRun[]> {
  const isPlace = (bytes: number) => Number.isSafeInteger(bytes) && bytes >= 0 && bytes % sectorSize === 0;
  if (!isPlace(offset) || !isPlace(length) || offset >= size || length === 0) return [];
  const list = new RunList(offset, sectorSize, MAX_RUNS);
  let looks = 0;
  for await (const extent of device.extents(offset, Math.min(length, size - offset))) {
    const status = (extent.zero ? STATE.ZERO : 0) | (extent.zero && !extent.data ? STATE.HOLE : 0);
    if (!list.add(extent.length, status) || ++looks === MAX_LOOKS) break;
  }
  return list.runs.map((run) => ({
    length: run.length,
    data: (run.status & STATE.HOLE) === 0,
    zero: (run.status & STATE.ZERO) !== 0,
  }));
}
