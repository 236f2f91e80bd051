/** Cylinder, head and sector as all partitioning tools fill them in: 255 heads, 63 sectors, and the largest value for what lies beyond. */

const HEADS = 255;
const SECTORS = 63;
const MAX_CYLINDER = 1023;

/** Three bytes: head; sector with cylinder bits 8-9 in bits 6-7; cylinder bits 0-7. */
export function encodeChs(lba: number): Uint8Array {
  const track = Math.floor(lba / SECTORS);
  const cylinder = Math.floor(track / HEADS);
  if (cylinder > MAX_CYLINDER)
    return Uint8Array.of(HEADS - 1, SECTORS | ((MAX_CYLINDER >> 2) & 0xc0), MAX_CYLINDER & 0xff);
  return Uint8Array.of(track % HEADS, ((lba % SECTORS) + 1) | ((cylinder >> 2) & 0xc0), cylinder & 0xff);
}
