/** Space given back: runs of zeros that are stored become zeros that are not. What the disk shows stays the same. */

import { byteGranular } from "../block/aligned.js";
import type { BlockDevice } from "../block/device.js";
import { zeroRuns } from "../block/runs.js";
import { inFlight } from "../block/tasks.js";
import { alignDown, alignUp, isZero } from "../bytes/align.js";

export interface TrimOptions {
  /** Shortest run of zeros that is given back, and its alignment: bytes. */
  readonly unit: number;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

const PIECE = 4 << 20;
const WIDTH = 2;

/** Bytes that were zeros in store. A cut at any write leaves the same visible bytes. */
export async function trimZeros(device: BlockDevice, options: TrimOptions): Promise<{ zeros: number }> {
  const bytes = byteGranular(device);
  const piece = Math.max(PIECE - (PIECE % options.unit), options.unit);
  const buffers = Array.from({ length: WIDTH }, () => new Uint8Array(Math.min(piece, bytes.size)));
  let [zeros, done] = [0, 0];
  await inFlight(
    WIDTH,
    storedPieces(bytes, options.unit, piece),
    async ({ offset, length }, lane) => {
      const data = buffers[lane]!.subarray(0, length);
      await bytes.read(offset, data);
      for (const run of zeroUnits(data, options.unit, offset + length === bytes.size)) {
        if (!options.dryRun) await bytes.zero(offset + run.start, run.end - run.start);
        zeros += run.end - run.start;
      }
      options.onProgress?.((done += length), bytes.size);
    },
    options.signal,
  );
  if (!options.dryRun) await bytes.flush();
  return { zeros };
}

/** What is stored, widened to whole units, in pieces of whole units. */
async function* storedPieces(
  device: BlockDevice,
  unit: number,
  piece: number,
): AsyncGenerator<{ offset: number; length: number }> {
  let next = 0;
  for await (const run of zeroRuns(device, 0, device.size)) {
    if (run.zero) continue;
    const end = Math.min(alignUp(run.offset + run.length, unit), device.size);
    for (next = Math.max(next, alignDown(run.offset, unit)); next < end; ) {
      const length = Math.min(piece, end - next);
      yield { offset: next, length };
      next += length;
    }
  }
}

function* zeroUnits(data: Uint8Array, unit: number, isLast: boolean): Generator<{ start: number; end: number }> {
  let start = -1;
  for (let at = 0; at < data.length; at += unit) {
    const end = Math.min(at + unit, data.length);
    const zero = isZero(data.subarray(at, end)) && (end - at === unit || isLast);
    if (zero && start < 0) start = at;
    if (!zero && start >= 0) {
      yield { start, end: at };
      start = -1;
    }
  }
  if (start >= 0) yield { start, end: data.length };
}
