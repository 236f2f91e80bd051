/** Offsets where layers go wrong: the start, every unit's edge, the end, each a block before and after. */

/** Multiples of `blockSize` within 0..size-blockSize, ascending, without doubles. */
export function edgeOffsets(size: number, blockSize: number, unit: number): number[] {
  const edges = [0, unit, 2 * unit, Math.floor(size / unit) * unit, size];
  const near = edges.flatMap((edge) => [edge - blockSize, edge, edge + blockSize]);
  const aligned = near.map((offset) => offset - (((offset % blockSize) + blockSize) % blockSize));
  return [...new Set(aligned)].filter((offset) => offset >= 0 && offset <= size - blockSize).sort((a, b) => a - b);
}
