/** A byte range of a device as a device of its own: a partition is this and nothing more. */
import type { BlockDevice } from "./device.js";
import { mapDevice } from "./mapped.js";

export interface SliceOptions {
  readonly label?: string;
  /** Close the underlying device with the slice; default false. */
  readonly own?: boolean;
}

/** `size` bytes of `device` from byte `origin`. Throws `RangeError` when they reach past its end. */
export function slice(device: BlockDevice, origin: number, size: number, options: SliceOptions = {}): BlockDevice {
  if (!(origin >= 0 && size >= 0 && origin <= device.size - size))
    throw new RangeError(`Cannot slice ${device.label}: bytes ${origin}..${origin + size}, allowed 0..${device.size}`);
  return mapDevice({
    label: options.label ?? `bytes ${origin}..${origin + size} of ${device.label}`,
    size,
    blockSize: device.blockSize,
    writable: device.writable,
    locate: async (offset, length) => ({ kind: "data", device, offset: origin + offset, length, shared: false }),
    flush: () => device.flush(),
    close: async () => (options.own ? device.close() : undefined),
  });
}
