/**
 * Another size for a VDI image. What lies behind a smaller size is cleared before and after: the header, one sector, is written
 * between two barriers, so a cut leaves the old or the new size, and no old bytes come back when the disk grows again.
 */
import { DiskError } from "../../errors.js";
import { ABSENT } from "../block-table.js";
import { mapBytes } from "./header.js";
import type { VdiImage } from "./image.js";
import { MAP_ENTRY_SIZE } from "./layout.js";

export async function resizeVdi(image: VdiImage, size: number): Promise<void> {
  const { blockSize, diskSize, blocks, mapOffset, dataOffset } = image.header;
  if (size === diskSize) return;
  const needed = Math.ceil(size / blockSize);
  const room = Math.floor((dataOffset - mapOffset) / MAP_ENTRY_SIZE);
  if (needed > room)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot resize ${image.label} to ${size} bytes: its block map has room for ${room * blockSize}, allowed is a new image ('xvd convert')`,
    );
  if (size < diskSize) return shrink(image, size);
  // Entries behind the old end were never used, or were cleared when the disk was made smaller and may have come back by a cut.
  const absent = new Uint8Array(mapBytes(Math.max(0, needed - Math.ceil(diskSize / blockSize)))).fill(0xff);
  await image.flush();
  await image.file.write(mapOffset + mapBytes(Math.ceil(diskSize / blockSize)), absent);
  await clearTail(image, diskSize);
  await image.file.flush();
  await image.rewriteHeader({ diskSize: size, blocks: Math.max(blocks, needed) });
  image.reopenMap();
}

async function shrink(image: VdiImage, size: number): Promise<void> {
  const { blockSize, diskSize } = image.header;
  await image.rewriteHeader({ diskSize: size });
  let freed = 0;
  for (let block = Math.ceil(size / blockSize); block < Math.ceil(diskSize / blockSize); block++) {
    const place = await image.map.get(block);
    if (place === ABSENT) continue;
    await image.map.set(block, ABSENT);
    if (place < 0) continue;
    await image.file.discard(place, Math.min(blockSize, image.file.size - place));
    freed++;
  }
  await clearTail(image, size);
  await image.rewriteHeader({ allocatedBlocks: image.header.allocatedBlocks - freed });
}

/** Zeros from `end` to the end of its block, where that lies in the file. */
async function clearTail(image: VdiImage, end: number): Promise<void> {
  const { blockSize } = image.header;
  const within = end % blockSize;
  if (within === 0) return;
  const place = await image.map.get(Math.floor(end / blockSize));
  if (place < 0) return;
  const stored = Math.min(place + blockSize, image.file.size) - (place + within);
  if (stored > 0) await image.file.zero(place + within, stored);
}
