/**
 * Copy-on-write over a base that is never written: changed units live in an upper layer, in memory or on a device of
 * at least the same size. Which units are there is kept in memory only; formats with their own tables keep it on disk.
 */
import { alignDown } from "../bytes/align.js";
import type { BlockDevice } from "./device.js";
import { type Location, mapDevice } from "./mapped.js";
import { memoryDevice } from "./memory.js";
import { UnitSet } from "./unit-set.js";

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
  const layer: Layer = upper ? new DeviceLayer(upper, unit) : new MemoryLayer(unit, blockSize);
  const changed = new UnitSet();

  return mapDevice({
    label: options.label ?? `overlay on ${base.label}`,
    size,
    blockSize,
    writable: true,
    async locate(offset, length) {
      const first = Math.floor(offset / unit);
      if (changed.has(first)) return layer.find(offset);
      const next = changed.nextFrom(first + 1, Math.ceil((offset + length) / unit));
      return below(base, offset, next * unit - offset);
    },
    allocator: {
      unit,
      async allocate(offset) {
        const place = layer.place(offset, Math.min(unit, size - offset));
        return { ...place, commit: async () => changed.add(offset / unit) };
      },
    },
    flush: () => upper?.flush() ?? Promise.resolve(),
  });
}

function below(base: BlockDevice, offset: number, length: number): Location {
  if (offset >= base.size) return { kind: "zero", length };
  return { kind: "data", device: base, offset, length: Math.min(length, base.size - offset), shared: true };
}

/** Where changed units lie. */
interface Layer {
  /** Of a unit that has its place. */
  find(offset: number): Location;
  /** A place for the unit at `offset`. */
  place(offset: number, length: number): { device: BlockDevice; offset: number };
}

/** Small devices in memory. */
class MemoryLayer implements Layer {
  readonly #unit: number;
  readonly #blockSize: number;
  readonly #units = new Map<number, BlockDevice>();

  constructor(unit: number, blockSize: number) {
    this.#unit = unit;
    this.#blockSize = blockSize;
  }

  find(offset: number): Location {
    const device = this.#units.get(Math.floor(offset / this.#unit))!;
    const within = offset % this.#unit;
    return { kind: "data", device, offset: within, length: device.size - within, shared: false };
  }

  place(offset: number, length: number): { device: BlockDevice; offset: number } {
    const device = memoryDevice(length, { blockSize: this.#blockSize });
    this.#units.set(offset / this.#unit, device);
    return { device, offset: 0 };
  }
}

/** A device, at the offsets that the units have in the overlay. */
class DeviceLayer implements Layer {
  readonly #device: BlockDevice;
  readonly #unit: number;

  constructor(device: BlockDevice, unit: number) {
    this.#device = device;
    this.#unit = unit;
  }

  find(offset: number): Location {
    const end = Math.min(alignDown(offset, this.#unit) + this.#unit, this.#device.size);
    return { kind: "data", device: this.#device, offset, length: end - offset, shared: false };
  }

  place(offset: number): { device: BlockDevice; offset: number } {
    return { device: this.#device, offset };
  }
}
