/** A device that can be exchanged for another one of the same contents while its users keep it: a volume whose group has changed. */
import type { BlockDevice } from "./device.js";
import { asFileRange, withFileRange } from "./file-range.js";

export interface ReplaceableDevice {
  /** What users hold. Closing it closes the present one. */
  readonly device: BlockDevice;
  /** From now on every call goes to `next`. Nothing may be under way; the one before is not closed. */
  replace(next: BlockDevice): void;
}

export function replaceable(first: BlockDevice): ReplaceableDevice {
  let now = first;
  const device: BlockDevice = {
    get label() {
      return now.label;
    },
    get size() {
      return now.size;
    },
    get blockSize() {
      return now.blockSize;
    },
    get writable() {
      return now.writable;
    },
    read: (offset, into) => now.read(offset, into),
    write: (offset, data) => now.write(offset, data),
    zero: (offset, length) => now.zero(offset, length),
    discard: (offset, length) => now.discard(offset, length),
    extents: (offset, length) => now.extents(offset, length),
    flush: () => now.flush(),
    close: () => now.close(),
  };
  return {
    device: withFileRange(device, (offset, length) => asFileRange(now, offset, length)),
    replace(next) {
      now = next;
    },
  };
}
