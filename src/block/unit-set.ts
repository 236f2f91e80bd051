/** A set of unit numbers up to 2^53-1, sparse: bitmaps of 32768 units where there are any, nothing elsewhere. */

const GROUP = 32768;

export class UnitSet {
  readonly #groups = new Map<number, Uint8Array>();

  add(unit: number): void {
    const group = Math.floor(unit / GROUP);
    let bitmap = this.#groups.get(group);
    if (!bitmap) this.#groups.set(group, (bitmap = new Uint8Array(GROUP / 8)));
    bitmap[(unit % GROUP) >> 3]! |= 1 << (unit & 7);
  }

  has(unit: number): boolean {
    const bitmap = this.#groups.get(Math.floor(unit / GROUP));
    return bitmap !== undefined && (bitmap[(unit % GROUP) >> 3]! & (1 << (unit & 7))) !== 0;
  }

  /** The first member within `start` to `end` exclusive, or `end`. Empty groups are stepped over whole. */
  nextFrom(start: number, end: number): number {
    for (let unit = start; unit < end; ) {
      const bitmap = this.#groups.get(Math.floor(unit / GROUP));
      if (!bitmap) unit += GROUP - (unit % GROUP);
      else if (bitmap[(unit % GROUP) >> 3] === 0) unit += 8 - (unit % 8);
      else if (this.has(unit)) return unit;
      else unit++;
    }
    return end;
  }
}
