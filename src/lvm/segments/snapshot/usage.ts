/** How full a store is, for reports: the last exception of each area, and all of the last two areas. Nothing is changed. */
import type { BlockDevice } from "../../../block/device.js";
import { areaChunk, dataChunkFrom, EXCEPTION, exceptionsPerArea, SNAPSHOT_EXCEPTION } from "./layout.js";
import { readHeader } from "./store.js";

/** Bytes. */
export interface StoreUsage {
  /** Data, exceptions and header. */
  readonly used: number;
  readonly metadata: number;
  readonly total: number;
  /** False: overflowed. */
  readonly valid: boolean;
}

/** `chunkSize` counts for a store that nobody has used yet. */
export async function readStoreUsage(cow: BlockDevice, chunkSize: number): Promise<StoreUsage> {
  const header = await readHeader(cow);
  const chunk = header?.chunkSize ?? chunkSize;
  const perArea = exceptionsPerArea(chunk);
  const total = cow.size;
  const chunks = Math.floor(total / chunk);
  let area = 0;
  if (header) for (const last = perArea - 1; (await newChunkAt(cow, chunk, area, last)) !== 0; ) area++;
  let nextFree = dataChunkFrom(areaChunk(area, perArea) + 1, perArea);
  for (const each of header ? [area - 1, area] : []) {
    if (each < 0) continue;
    const bytes = Buffer.alloc(chunk);
    await cow.read(areaChunk(each, perArea) * chunk, bytes);
    for (let i = 0; i < perArea; i++) {
      const place = placeIn(bytes, i * EXCEPTION);
      if (place === 0) break;
      nextFree = Math.max(nextFree, dataChunkFrom(place + 1, perArea));
    }
  }
  const valid = header?.valid ?? true;
  return { used: Math.min(nextFree, chunks) * chunk, metadata: (area + 2) * chunk, total, valid };
}

/** 0 also where the store ends. */
async function newChunkAt(cow: BlockDevice, chunkSize: number, area: number, index: number): Promise<number> {
  const offset = areaChunk(area, exceptionsPerArea(chunkSize)) * chunkSize + index * EXCEPTION;
  if (offset + EXCEPTION > cow.size) return 0;
  const bytes = Buffer.alloc(EXCEPTION);
  await cow.read(offset, bytes);
  return placeIn(bytes, 0);
}

function placeIn(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64LE(at + SNAPSHOT_EXCEPTION.fields.newChunk.offset));
}

/** As LVM2 shows it: nothing until there is data, everything when it is lost. */
export function usagePercent({ used, metadata, total, valid }: StoreUsage): number {
  if (!valid) return 100;
  return used === metadata ? 0 : (100 * used) / total;
}
