/**
 * Chunks of an origin to chunks of a store: a hash table in two arrays, since a store of 100 GiB has 25 million exceptions and a `Map`
 * holds 16 million. About 32 bytes for each.
 */

const LEAST_SLOTS = 64;

export class ChunkMap {
  #keys = new Float64Array(LEAST_SLOTS).fill(-1);
  #values = new Float64Array(LEAST_SLOTS);
  #used = 0;

  /** 0 when there is none: the header lies there. */
  get(chunk: number): number {
    const slot = this.#slotOf(chunk);
    return this.#keys[slot] === chunk ? this.#values[slot]! : 0;
  }

  set(chunk: number, place: number): void {
    const slot = this.#slotOf(chunk);
    if (this.#keys[slot] !== chunk) this.#used++;
    this.#keys[slot] = chunk;
    this.#values[slot] = place;
    if (this.#used * 2 > this.#keys.length) this.#grow();
  }

  /** The slot that has the chunk, or the one where it would go. */
  #slotOf(chunk: number): number {
    const mask = this.#keys.length - 1;
    const mixed = Math.imul(chunk % 0x1_0000_0000, 0x9e3779b1);
    let slot = (mixed ^ (mixed >>> 15)) & mask;
    while (this.#keys[slot] !== -1 && this.#keys[slot] !== chunk) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const [keys, values] = [this.#keys, this.#values];
    this.#keys = new Float64Array(keys.length * 2).fill(-1);
    this.#values = new Float64Array(keys.length * 2);
    for (const [i, chunk] of keys.entries())
      if (chunk !== -1) {
        const slot = this.#slotOf(chunk);
        this.#keys[slot] = chunk;
        this.#values[slot] = values[i]!;
      }
  }
}
