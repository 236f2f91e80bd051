/**
 * The persistent exception store of old-style snapshots: what lies on a snapshot's own volume (its COW store). Linux
 * drivers/md/dm-snap-persistent.c; everything is little-endian. A chunk is 4 KiB to 512 KiB, a power of two.
 *
 *   chunk 0      header
 *   chunk 1      area 0: one exception of 16 bytes for each of the n data chunks behind it; the first that is zero ends the list
 *   chunk 2..    n data chunks
 *   chunk n + 2  area 1, and so on; an area is zeroed before the one in front of it becomes full
 */
import { constant, magic, u32, u64 } from "../../../bytes/field-types.js";
import { at, layout } from "../../../bytes/layout.js";
import { SECTOR } from "../../layout.js";

export const SNAPSHOT_HEADER = layout(
  "LVM2 snapshot store header",
  { endian: "le", size: 16, spec: "Linux, drivers/md/dm-snap-persistent.c" },
  {
    magic: at(0, magic("SnAp"), "identifies the store; zeros: a store without a header yet"),
    valid: at(4, u32, "0: overflowed or damaged, and of no use any more"),
    version: at(8, constant(u32, 1), "of the format"),
    chunkSectors: at(12, u32, "512-byte sectors of a chunk; what the group's metadata says does not count"),
  },
);

export const SNAPSHOT_EXCEPTION = layout(
  "LVM2 snapshot exception",
  { endian: "le", size: 16, spec: "Linux, drivers/md/dm-snap-persistent.c" },
  {
    oldChunk: at(0, u64, "chunk of the origin"),
    newChunk: at(8, u64, "chunk of the store that has its contents; 0 ends the list"),
  },
);

export const EXCEPTION = SNAPSHOT_EXCEPTION.size;
/** Bytes of a chunk. */
export const LEAST_CHUNK = 4 << 10;
export const MOST_CHUNK = 512 << 10;
export const DEFAULT_CHUNK = 4 << 10;
/** The first area begins behind the header. */
const HEADER_CHUNKS = 1;

export function isChunkSize(bytes: number): boolean {
  return bytes >= LEAST_CHUNK && bytes <= MOST_CHUNK && Number.isInteger(Math.log2(bytes));
}

export function exceptionsPerArea(chunkSize: number): number {
  return chunkSize / EXCEPTION;
}

/** Where an area lies, in chunks. */
export function areaChunk(area: number, perArea: number): number {
  return HEADER_CHUNKS + area * (perArea + 1);
}

/** The first chunk from `chunk` on that may hold data. */
export function dataChunkFrom(chunk: number, perArea: number): number {
  const first = Math.max(chunk, HEADER_CHUNKS + 1);
  return first % (perArea + 1) === HEADER_CHUNKS ? first + 1 : first;
}

/** Bytes beyond which a store for an origin of `originSize` bytes is never used, as LVM2 counts them. */
export function mostStoreBytes(originSize: number, chunkSize: number): number {
  const chunks = Math.ceil(originSize / chunkSize);
  const perArea = exceptionsPerArea(chunkSize);
  // The area behind a full one is there too, so that it can be zeroed.
  return (HEADER_CHUNKS + chunks + Math.floor((chunks + perArea) / perArea)) * chunkSize;
}

/** Smaller ones hold no exception. */
export const LEAST_CHUNKS = 3;

export function chunkSectors(chunkSize: number): number {
  return chunkSize / SECTOR;
}
