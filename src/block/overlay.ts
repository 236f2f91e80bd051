/**
 * Copy-on-write over a base that is never written: changed units live in an upper layer, in memory or on a device of
 * at least the same size. Which units are there is kept in memory only; formats with their own tables keep it on disk.
 */
import { alignDown } from "../bytes/align.js";
import type { BlockDevice } from "./device.js";
import { type Allocation, type Location, mapDevice } from "./mapped.js";
import { memoryDevice } from "./memory.js";

export interface OverlayOptions {
  readonly label?: string;
  /** Takes the changed units, each at its own offset; default: memory, as much as is written. Not closed with the overlay. */
  readonly upper?: BlockDevice;
  /** Bytes that are copied together, a multiple of both block sizes; default 64 KiB. */
  readonly unit?: number;
  /** Default: the base's. What lies behind the base's end reads as zeros. */
  readonly size?: number;
}

const DEFAULT_UNIT = 64 * 1024;

export function overlayDevice(base: BlockDevice, options: OverlayOptions = {}): BlockDevice {
  const { unit = DEFAULT_UNIT, upper, size = base.size } = options;
  const blockSize = Math.max(base.blockSize, upper?.blockSize ?? 1);
  if (!(unit > 0) || unit % blockSize !== 0)
    throw new RangeError(`Cannot overlay ${base.label}: the unit is ${unit}, allowed multiples of ${blockSize}`);
  if (upper && (!upper.writable || upper.size < size))
    throw new RangeError(`Cannot overlay ${base.label}: ${upper.label} must be writable and hold ${size} bytes`);
  const layer = upper ? new DeviceLayer(upper, unit) : new MemoryLayer(unit, blockSize);

  return mapDevice({
    label: options.label ?? `overlay on ${base.label}`,
    size,
    blockSize,
    writable: true,
    async locate(offset, length) {
      const changed = layer.find(offset);
      if (changed) return changed;
      // Up to the next changed unit, looking no further than was asked.
      let end = alignDown(offset, unit) + unit;
      while (end < offset + length && !layer.has(end)) end += unit;
      return below(base, offset, end - offset);
    },
    allocator: { unit, allocate: async (offset) => layer.allocate(offset, Math.min(unit, size - offset)) },
    flush: () => upper?.flush() ?? Promise.resolve(),
  });
}

function below(base: BlockDevice, offset: number, length: number): Location {
  if (offset >= base.size) return { kind: "zero", length };
  return { kind: "data", device: base, offset, length: Math.min(length, base.size - offset), shared: true };
}

/** Changed units as small devices in memory. */
class MemoryLayer {
  readonly #unit: number;
  readonly #blockSize: number;
  readonly #units = new Map<number, BlockDevice>();

  constructor(unit: number, blockSize: number) {
    this.#unit = unit;
    this.#blockSize = blockSize;
  }

  has(offset: number): boolean {
    return this.#units.has(Math.floor(offset / this.#unit));
  }

  find(offset: number): Location | undefined {
    const device = this.#units.get(Math.floor(offset / this.#unit));
    const within = offset % this.#unit;
    return device && { kind: "data", device, offset: within, length: device.size - within, shared: false };
  }

  allocate(offset: number, length: number): Allocation {
    const device = memoryDevice(length, { blockSize: this.#blockSize });
    return { device, offset: 0, commit: async () => void this.#units.set(offset / this.#unit, device) };
  }
}

/** Changed units on a device, at the offsets that they have in the overlay. */
class DeviceLayer {
  readonly #device: BlockDevice;
  readonly #unit: number;
  readonly #units = new Set<number>();

  constructor(device: BlockDevice, unit: number) {
    this.#device = device;
    this.#unit = unit;
  }

  has(offset: number): boolean {
    return this.#units.has(Math.floor(offset / this.#unit));
  }

  find(offset: number): Location | undefined {
    if (!this.has(offset)) return undefined;
    const end = Math.min(alignDown(offset, this.#unit) + this.#unit, this.#device.size);
    return { kind: "data", device: this.#device, offset, length: end - offset, shared: false };
  }

  allocate(offset: number, _length: number): Allocation {
    return { device: this.#device, offset, commit: async () => void this.#units.add(offset / this.#unit) };
  }
}
