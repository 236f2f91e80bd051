/** Bit masks written as specifications print them: by first and last bit, never as counted hex digits. */

/** Bits `first` to `last` inclusive as a bigint mask, bit 0 lowest. */
export function bits(first: number, last: number): bigint {
  if (!(first >= 0 && first <= last && last <= 63))
    throw new RangeError(`bits ${first}..${last} are no range within 0..63`);
  return ((1n << BigInt(last - first + 1)) - 1n) << BigInt(first);
}

/** One bit of a 64-bit word. */
export function bit(position: number): bigint {
  return bits(position, position);
}
