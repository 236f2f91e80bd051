/** Zeros of any size that cost nothing; writes vanish. A sink for measurements, a base for empty overlays. */
import { type BlockDevice, defineDevice } from "./device.js";

export interface NullOptions {
  readonly label?: string;
  readonly blockSize?: number;
  /** Default true: takes writes and forgets them. */
  readonly writable?: boolean;
}

export function nullDevice(size: number, options: NullOptions = {}): BlockDevice {
  const { label = "null", blockSize = 1, writable = true } = options;
  return defineDevice({
    label,
    size,
    blockSize,
    writable,
    async read(_offset, into) {
      into.fill(0);
    },
    async write() {},
    async zero() {},
    async *extents(offset, length) {
      yield { offset, length, data: false, zero: true, present: false, depth: 0, hostOffset: null };
    },
  });
}
