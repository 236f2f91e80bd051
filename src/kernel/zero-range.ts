/**
 * A range made zero with its space given back. The loop device turns both BLKDISCARD and BLKZEROOUT into punched holes, and
 * a punched hole reads as zeros; a device's `discard` promises nothing. So what was discarded is read again, and zeros are
 * written only where something else is left: mkfs on a sparse disk leaves it sparse.
 */
import type { BlockDevice } from "../block/device.js";

const PIECE = 1 << 20;
/** Looked at side by side, so that a device with a queue is not asked one piece at a time. */
const AT_ONCE = 4;

/** `given` tells between pieces whether the caller has given up; then the rest is left as it is and false is returned. */
export async function punch(
  device: BlockDevice,
  offset: number,
  length: number,
  gaveUp: () => boolean,
): Promise<boolean> {
  await device.discard(offset, length);
  let next = offset;
  const lane = async () => {
    const piece = new Uint8Array(Math.min(PIECE, length));
    while (next < offset + length && !gaveUp()) {
      const at = next;
      const bytes = piece.subarray(0, Math.min(PIECE, offset + length - at));
      next = at + bytes.length;
      await device.read(at, bytes);
      if (!isZero(bytes)) await device.zero(at, bytes.length);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, Math.ceil(length / PIECE)) }, lane));
  return !gaveUp();
}

const ZEROS = Buffer.alloc(PIECE);

function isZero(bytes: Uint8Array): boolean {
  return ZEROS.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
}
