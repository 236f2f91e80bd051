/** Cylinders, heads and sectors of a VHD (specification 1.0, appendix "CHS Calculation"), and which of two sizes counts. */
import { SECTOR, type VhdFooter } from "./layout.js";

export interface Geometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectorsPerTrack: number;
}

const MAX_SECTORS = 65535 * 16 * 255;

export function geometryFor(size: number): Geometry {
  const sectors = Math.min(Math.floor(size / SECTOR), MAX_SECTORS);
  if (sectors >= 65535 * 16 * 63) return rounded(sectors, 16, 255);
  let [heads, sectorsPerTrack] = [Math.max(4, Math.ceil(Math.floor(sectors / 17) / 1024)), 17];
  if (heads > 16 || Math.floor(sectors / 17) >= heads * 1024) [heads, sectorsPerTrack] = [16, 31];
  if (sectorsPerTrack === 31 && Math.floor(sectors / 31) >= 16 * 1024) sectorsPerTrack = 63;
  return rounded(sectors, heads, sectorsPerTrack);
}

function rounded(sectors: number, heads: number, sectorsPerTrack: number): Geometry {
  return { cylinders: Math.floor(Math.floor(sectors / sectorsPerTrack) / heads), heads, sectorsPerTrack };
}

/** Programs whose machines see the geometry, not the size: Virtual PC, Virtual Server, and QEMU where nobody asked it for the size. */
const BY_GEOMETRY = ["vpc ", "vs  ", "qemu"];

/** Bytes that the guest sees. */
export function visibleSize({ creator, currentSize, cylinders, heads, sectorsPerTrack }: VhdFooter): number {
  const sectors = cylinders * heads * sectorsPerTrack;
  const byGeometry = BY_GEOMETRY.includes(creator) && sectors > 0 && sectors < MAX_SECTORS;
  return byGeometry ? Math.min(sectors * SECTOR, currentSize) : currentSize;
}
