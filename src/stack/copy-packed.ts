/**
 * A disk written in one pass, packed on all cores: batches of units are read and packed while earlier ones are written,
 * in ascending order. Memory is bounded by the batches in flight.
 */

import { byteGranular } from "../block/aligned.js";
import type { BlockDevice } from "../block/device.js";
import { type Packed, PackingPool } from "../block/packing-pool.js";
import { padded } from "../block/padded.js";
import { zeroRuns } from "../block/runs.js";
import { isZero } from "../bytes/align.js";
import type { ImageWriter } from "../formats/extensions.js";

export interface PackedCopyOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Bytes that are read and packed together, at least one unit. */
const BATCH = 1 << 20;
/** Batches in flight for each thread: one that is packed, one that waits, one that is read or written. */
const PER_THREAD = 3;

/** Units that are zero, or what `backing` has, are left out. Returns the bytes that were written, before packing. */
export async function copyPacked(
  source: BlockDevice,
  writer: ImageWriter,
  backing: BlockDevice | null,
  { signal, onProgress }: PackedCopyOptions,
): Promise<number> {
  const { unit } = writer;
  const bytes = byteGranular(source);
  const beneath = backing && padded(byteGranular(backing), Math.max(source.size, backing.size));
  const pool = new PackingPool(writer.packing, unit);
  const batchSize = Math.max(unit, BATCH - (BATCH % unit));
  const pending: { offset: number; packed: Promise<Packed | null> }[] = [];
  const free: Uint8Array<ArrayBuffer>[] = [];
  let copied = 0;

  const writeOldest = async () => {
    const { offset, packed } = pending.shift()!;
    const batch = await packed;
    if (!batch) return;
    for (const [index, bytesOfUnit] of batch.packed.entries()) {
      const data = batch.data.subarray(index * unit, (index + 1) * unit);
      if (await isLeftOut(data, offset + index * unit, beneath, writer)) continue;
      await writer.write(offset + index * unit, data, bytesOfUnit);
      copied += data.length;
    }
    free.push(new Uint8Array(batch.data.buffer));
    onProgress?.(offset + batch.data.length, source.size);
  };
  try {
    for await (const { offset, length } of batches(bytes, beneath, unit, batchSize)) {
      signal?.throwIfAborted();
      if (pending.length >= pool.size * PER_THREAD) await writeOldest();
      const data = (free.pop() ?? new Uint8Array(batchSize)).subarray(0, length);
      const packed = readAndPack(bytes, offset, data, pool, beneath === null, free);
      packed.catch(() => {}); // thrown when its turn comes
      pending.push({ offset, packed });
    }
    while (pending.length > 0) await writeOldest();
  } finally {
    await Promise.allSettled(pending.map(({ packed }) => packed));
    await pool.close();
  }
  return copied;
}

/** Null when all of it is zero and zeros can be left out. */
async function readAndPack(
  source: BlockDevice,
  offset: number,
  data: Uint8Array<ArrayBuffer>,
  pool: PackingPool,
  leavesOutZeros: boolean,
  free: Uint8Array<ArrayBuffer>[],
): Promise<Packed | null> {
  await source.read(offset, data);
  if (!leavesOutZeros || !isZero(data)) return pool.pack(data);
  free.push(new Uint8Array(data.buffer));
  return null;
}

async function isLeftOut(
  data: Uint8Array,
  offset: number,
  backing: BlockDevice | null,
  writer: ImageWriter,
): Promise<boolean> {
  if (!backing) return isZero(data);
  const beneath = new Uint8Array(data.length);
  await backing.read(offset, beneath);
  if (Buffer.compare(data, beneath) === 0) return true;
  if (!isZero(data)) return false;
  await writer.zero(offset, data.length);
  return true;
}

/** Ranges of whole units that may hold something, in order. Over a backing image that is everything. */
async function* batches(
  source: BlockDevice,
  backing: BlockDevice | null,
  unit: number,
  batchSize: number,
): AsyncGenerator<{ offset: number; length: number }> {
  let next = 0; // units before it are done
  for await (const run of zeroRuns(source, 0, source.size)) {
    if (run.zero && !backing) continue;
    const end = Math.min(Math.ceil((run.offset + run.length) / unit) * unit, source.size);
    next = Math.max(next, run.offset - (run.offset % unit));
    for (; next < end; next += batchSize) yield { offset: next, length: Math.min(batchSize, end - next) };
    next = end;
  }
}
