/** Reads that tell holes instead of sending zeros. */
import type { BlockDevice } from "../block/device.js";
import type { BufferPool } from "./buffer-pool.js";
import { STATE } from "./codes.js";
import { allocation } from "./meta-context.js";
import type { Replies } from "./replies.js";
import type { Request } from "./request.js";

/** A hole shorter than this is sent as data: a chunk of its own costs more than it saves. */
const SMALLEST_HOLE = 4096;

/** Reads only what is no hole. Nothing is sent before all is read, so that an error is the whole answer. */
export async function readSparse(
  device: BlockDevice,
  request: Request,
  pool: BufferPool,
  replies: Replies,
): Promise<void> {
  const runs = await readRuns(device, request.offset, request.length);
  const parts = await Promise.all(runs.map((run) => (run.hole ? undefined : readPart(device, run, pool))));
  for (const [i, { offset, length, hole }] of runs.entries()) {
    const last = i === runs.length - 1;
    if (hole) replies.hole(request, offset, length, last);
    else replies.data(request, offset, parts[i]!.data, last, () => pool.give(parts[i]!.buffer));
  }
}

async function readPart(
  device: BlockDevice,
  { offset, length }: ReadRun,
  pool: BufferPool,
): Promise<{ buffer: Buffer; data: Buffer }> {
  const buffer = pool.take(length);
  const data = buffer.length === length ? buffer : buffer.subarray(0, length);
  await device.read(offset, data);
  return { buffer, data };
}

interface ReadRun {
  readonly offset: number;
  readonly length: number;
  readonly hole: boolean;
}

/** How a read is best sent: ascending runs that cover it, holes only where they are worth a chunk. */
async function readRuns(device: BlockDevice, offset: number, length: number): Promise<readonly ReadRun[]> {
  const runs: { offset: number; length: number; hole: boolean }[] = [];
  let end = offset;
  for (const { length: size, status } of await allocation(device, offset, length, false)) {
    const hole = (status & STATE.ZERO) !== 0 && size >= SMALLEST_HOLE;
    const last = runs.at(-1);
    if (last?.hole === hole) last.length += size;
    else runs.push({ offset: end, length: size, hole });
    end += size;
  }
  // The map was cut short: what is left is read.
  if (end < offset + length) runs.push({ offset: end, length: offset + length - end, hole: false });
  return runs;
}
