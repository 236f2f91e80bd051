/** Buffers for payload by powers of two, used again and again: no allocation and no page fault per request. */

const SMALLEST = 4096;
/** Larger buffers are rare and come from the system each time. */
const LARGEST = 4 << 20;

export class BufferPool {
  readonly #free = new Map<number, Buffer[]>();
  readonly #keep: number;
  #kept = 0;

  /** `keep` is the most bytes that lie idle here. */
  constructor(keep: number) {
    this.#keep = keep;
  }

  /** A buffer of at least `length` bytes with any contents. */
  take(length: number): Buffer {
    if (length > LARGEST) return Buffer.allocUnsafeSlow(length);
    const size = length <= SMALLEST ? SMALLEST : 2 ** (32 - Math.clz32(length - 1));
    const buffer = this.#free.get(size)?.pop();
    if (!buffer) return Buffer.allocUnsafeSlow(size);
    this.#kept -= size;
    return buffer;
  }

  /** Takes back a buffer that `take` gave and nobody uses any more. */
  give(buffer: Buffer): void {
    if (buffer.length > LARGEST || this.#kept + buffer.length > this.#keep) return;
    const free = this.#free.get(buffer.length);
    if (free) free.push(buffer);
    else this.#free.set(buffer.length, [buffer]);
    this.#kept += buffer.length;
  }
}
