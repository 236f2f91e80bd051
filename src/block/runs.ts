/** A device's map reduced to what bulk work needs to know: which bytes must be read. */
import { DiskError } from "../errors.js";
import type { BlockDevice } from "./device.js";

export interface ZeroRun {
  readonly offset: number;
  readonly length: number;
  /** Known to be zeros; otherwise to be read. */
  readonly zero: boolean;
}

/** Data is passed on in runs of at most this, so that work starts before the map is walked to its end. */
const LONGEST_DATA = 64 << 20;

/** Ascending and gapless over the range; neighbours of one kind are joined. Throws `IO` when the map has a gap. */
export async function* zeroRuns(device: BlockDevice, offset: number, length: number): AsyncGenerator<ZeroRun> {
  let start = offset; // of the run being joined
  let end = offset;
  let zero = false;
  for await (const extent of device.extents(offset, length)) {
    if (extent.offset !== end || extent.length <= 0)
      throw new DiskError(
        "IO",
        `Cannot map ${device.label}: a run begins at byte ${extent.offset}, the one before it ends at ${end}`,
      );
    if (end > start && (extent.zero !== zero || (!zero && end - start >= LONGEST_DATA))) {
      yield { offset: start, length: end - start, zero };
      start = end;
    }
    zero = extent.zero;
    end += extent.length;
  }
  if (end !== offset + length)
    throw new DiskError(
      "IO",
      `Cannot map ${device.label}: its map ends at byte ${end}, asked for up to ${offset + length}`,
    );
  if (end > start) yield { offset: start, length: end - start, zero };
}
