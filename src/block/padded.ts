/** A device made longer: what lies behind its end reads as zeros. For images over a shorter one. */
import type { BlockDevice } from "./device.js";
import { type Location, mapDevice } from "./mapped.js";

/** Read-only; does not own the device. */
export function padded(device: BlockDevice, size: number): BlockDevice {
  return mapDevice({
    label: device.label,
    size,
    blockSize: 1,
    writable: false,
    async locate(offset, length): Promise<Location> {
      const left = device.size - offset;
      return left > 0
        ? { kind: "data", device, offset, length: Math.min(length, left), shared: false }
        : { kind: "zero", length };
    },
  });
}
