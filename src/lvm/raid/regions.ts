/** A set of regions of a volume: one bit for each, lowest bit first, as bitmaps on disk have them. */

export class Regions {
  /** How many regions there are. */
  readonly count: number;
  /** Bits behind the last region are 0. */
  readonly bits: Uint8Array;
  #size = 0;

  constructor(count: number) {
    this.count = count;
    this.bits = new Uint8Array(Math.ceil(count / 8));
  }

  /** From a bitmap's bits, which may be too few; what it holds behind the last region means nothing. */
  static from(count: number, bits: Uint8Array): Regions {
    const regions = new Regions(count);
    for (let region = 0; region < count && region < bits.length * 8; region++)
      if (bits[region >> 3]! & (1 << (region & 7))) regions.add(region);
    return regions;
  }

  static all(count: number): Regions {
    const regions = new Regions(count);
    for (let region = 0; region < count; region++) regions.add(region);
    return regions;
  }

  /** Members. */
  get size(): number {
    return this.#size;
  }

  has(region: number): boolean {
    return (this.bits[region >> 3]! & (1 << (region & 7))) !== 0;
  }

  add(region: number): void {
    if (this.has(region)) return;
    this.bits[region >> 3]! |= 1 << (region & 7);
    this.#size++;
  }

  delete(region: number): void {
    if (!this.has(region)) return;
    this.bits[region >> 3]! &= ~(1 << (region & 7));
    this.#size--;
  }

  addAll(other: Regions): void {
    for (const region of other) this.add(region);
  }

  /** Ascending. Members may be added and deleted meanwhile. */
  *[Symbol.iterator](): Generator<number> {
    for (let region = 0; region < this.count; region++) {
      if (this.bits[region >> 3] === 0) region |= 7;
      else if (this.has(region)) yield region;
    }
  }
}
