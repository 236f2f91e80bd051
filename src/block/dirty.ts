/**
 * Which parts of a device were written since somebody last asked, in units, so that a copy of a device in use can be
 * brought up to date. Memory is bounded: at most 2 MiB of bits for a device that is dirty all over, whatever its size.
 */
import type { BlockDevice } from "./device.js";
import { UnitSet } from "./unit-set.js";

export interface DirtyRange {
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
}

export interface DirtyRanges {
  /** Bytes of a unit. */
  readonly unit: number;
  /** Bytes, in whole units, that changed since the last `take`. */
  readonly dirty: number;
  /** What changed since the last `take`, ascending, neighbours joined; clean from now on. A copy made after this call sees it. */
  take(): Generator<DirtyRange>;
  /** Ends the tracking; the device is as it was. */
  stop(): void;
}

const LEAST_UNIT = 64 << 10;
const MOST_UNITS = 2 ** 24;

type Change = "write" | "zero" | "discard";

/**
 * Watches the changes that are made through this object `device`, which keeps serving its users meanwhile at no cost when
 * it is not tracked. A range counts when its change has ended, well or badly: a copy that ran beside it saw half of it.
 */
export function trackDirty(device: BlockDevice, unit = unitFor(device.size)): DirtyRanges {
  let units = new UnitSet();
  let count = 0;
  const mark = (offset: number, length: number) => {
    const end = Math.ceil((offset + length) / unit);
    for (let each = Math.floor(offset / unit); each < end; each++)
      if (!units.has(each)) {
        units.add(each);
        count++;
      }
  };
  const restore = (["write", "zero", "discard"] as const).map((change) => watch(device, change, mark));
  return {
    unit,
    get dirty() {
      return count * unit;
    },
    take() {
      const taken = units;
      units = new UnitSet();
      count = 0;
      return ranges(taken, unit, device.size);
    },
    stop() {
      for (const undo of restore) undo();
    },
  };
}

function unitFor(size: number): number {
  let unit = LEAST_UNIT;
  while (size / unit > MOST_UNITS) unit *= 2;
  return unit;
}

/** Puts a method of its own in front of the device's; returns what takes it away again. */
function watch(device: BlockDevice, change: Change, mark: (offset: number, length: number) => void): () => void {
  const own = Object.getOwnPropertyDescriptor(device, change);
  const method = device[change] as (offset: number, what: number | Uint8Array) => Promise<void>;
  const watched = async (offset: number, what: number | Uint8Array) => {
    try {
      await method.call(device, offset, what);
    } finally {
      mark(offset, typeof what === "number" ? what : what.length);
    }
  };
  Object.defineProperty(device, change, { value: watched, configurable: true, writable: true });
  return () => {
    if (own) Object.defineProperty(device, change, own);
    else delete (device as Partial<BlockDevice>)[change];
  };
}

function* ranges(units: UnitSet, unit: number, size: number): Generator<DirtyRange> {
  const end = Math.ceil(size / unit);
  for (let first = units.nextFrom(0, end); first < end; ) {
    let after = first + 1;
    while (after < end && units.has(after)) after++;
    yield { offset: first * unit, length: Math.min(after * unit, size) - first * unit };
    first = units.nextFrom(after, end);
  }
}
