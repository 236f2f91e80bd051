/** The sectors of a block that are stored: one bit each, the highest bit of a byte first. */

export class Bitmap {
  readonly #bytes: Uint8Array;

  /** A view on the bytes. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  has(sector: number): boolean {
    return (this.#bytes[sector >> 3]! & (0x80 >> (sector & 7))) !== 0;
  }

  /** The first sector from `sector` on, before `end`, whose bit is not `value`; `end` when there is none. */
  endOfRun(sector: number, end: number, value: boolean): number {
    const whole = value ? 0xff : 0;
    let next = sector + 1;
    while (next < end) {
      if ((next & 7) === 0 && this.#bytes[next >> 3] === whole) next += 8;
      else if (this.has(next) === value) next++;
      else return next;
    }
    return end;
  }

  add(first: number, end: number): void {
    for (let sector = first; sector < end; sector++) {
      if ((sector & 7) === 0 && end - sector >= 8) {
        this.#bytes[sector >> 3] = 0xff;
        sector += 7;
      } else this.#bytes[sector >> 3]! |= 0x80 >> (sector & 7);
    }
  }
}
