/**
 * A format does not read or write: it maps. This is the one read loop, the one write loop, the one copy-on-write
 * and the one walk of extents for everything that translates addresses: slices, partitions, volumes, overlays, image formats.
 *
 * Copy-on-write of one unit:   allocate -> fill (old bytes around the new ones) -> write -> commit (links the unit)
 * A cut before commit() leaves the old contents and at most a leaked unit; after it the new contents. Nothing between.
 */
import { alignDown, alignUp } from "../bytes/align.js";
import { DiskError } from "../errors.js";
import { type BlockDevice, defineDevice, type Extent } from "./device.js";
import { asFileRange, type FileRange, withFileRange } from "./file-range.js";
import { GracePeriod } from "./grace.js";
import { RangeLock } from "./range-lock.js";

/** Where a run of guest-visible bytes lies. `length` is at least 1 and may exceed what was asked for. */
export type Location =
  /** `shared`: the bytes belong to somebody else too (a backing device, a snapshot) and are never written there. */
  | { kind: "data"; device: BlockDevice; offset: number; length: number; shared: boolean }
  | { kind: "zero"; length: number };

export interface Allocation {
  device: BlockDevice;
  offset: number;
  /** Bytes, whole units (the last one of the device is short), at most as many as were asked for. Default: one unit. */
  length?: number;
  /** Links the units; called once, after all of their data is in place. */
  commit(): Promise<void>;
}

export interface Mapping extends Pick<BlockDevice, "label" | "size" | "blockSize" | "writable"> {
  locate(offset: number, length: number): Promise<Location>;
  /** Needed when shared or zero runs may be written; `unit` in bytes, `allocate` takes whole units, none of which has a place of its own. */
  readonly allocator?: { unit: number; allocate(offset: number, length: number): Promise<Allocation> };
  /**
   * For formats whose tables can say "zero" or forget a unit. Whole units of `unit` bytes; what the range had may be used
   * again when the function that is returned is called, not before: requests that are under way still have its address.
   */
  readonly clearer?: {
    unit: number;
    clear(offset: number, length: number, how: "zero" | "discard"): Promise<() => void>;
  };
  flush?(): Promise<void>;
  close?(): Promise<void>;
}

export function mapDevice(mapping: Mapping): BlockDevice {
  const io = new MappedIo(mapping);
  const device = defineDevice({
    label: mapping.label,
    // A getter: a mapping may grow.
    get size() {
      return mapping.size;
    },
    blockSize: mapping.blockSize,
    writable: mapping.writable,
    read: (offset, into) => io.read(offset, into),
    write: (offset, data) => io.write(offset, data),
    zero: (offset, length) => io.zero(offset, length),
    discard: (offset, length) => io.discard(offset, length),
    extents: (offset, length) => io.extents(offset, length),
    flush: () => mapping.flush?.() ?? Promise.resolve(),
    close: () => mapping.close?.() ?? Promise.resolve(),
  });
  return withFileRange(device, (offset, length) => io.fileRange(offset, length));
}

class MappedIo {
  readonly #mapping: Mapping;
  /** Held while units get or lose their place. */
  readonly #units = new RangeLock();
  readonly #grace = new GracePeriod();

  constructor(mapping: Mapping) {
    this.#mapping = mapping;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#mapping.clearer ? this.#grace.run(() => this.#read(offset, into)) : this.#read(offset, into);
  }

  async #read(offset: number, into: Uint8Array): Promise<void> {
    const first = await this.#mapping.locate(offset, into.length);
    if (first.length >= into.length) return readLocation(first, into); // the common case: one run, no copy of the view
    let done = 0;
    for (let location = first; ; location = await this.#mapping.locate(offset + done, into.length - done)) {
      const length = Math.min(location.length, into.length - done);
      await readLocation(location, into.subarray(done, done + length));
      done += length;
      if (done === into.length) return;
    }
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#update(offset, data.length, {
      inPlace(location, done, length) {
        if (location.kind === "data" && !location.shared)
          return location.device.write(location.offset, data.subarray(done, done + length));
        return undefined;
      },
      whole: (at, length) => data.subarray(at, at + length),
      within: (unit, from, length, at) => unit.set(data.subarray(at, at + length), from),
    });
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#clearUnits(offset, length, "zero", (at, part) => this.#zeroParts(at, part));
  }

  #zeroParts(offset: number, length: number): Promise<void> {
    return this.#update(offset, length, {
      inPlace(location, _done, part) {
        if (location.kind === "zero") return Promise.resolve();
        return location.shared ? undefined : location.device.zero(location.offset, part);
      },
      whole: (_at, part) => new Uint8Array(part),
      within: (unit, from, part) => unit.fill(0, from, from + part),
    });
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#clearUnits(offset, length, "discard", (at, part) => this.#discardParts(at, part));
  }

  /** Whole units by the mapping's tables, where it can; `rest` for what lies before and behind them. */
  async #clearUnits(
    offset: number,
    length: number,
    how: "zero" | "discard",
    rest: (offset: number, length: number) => Promise<void>,
  ): Promise<void> {
    const { clearer, size } = this.#mapping;
    const end = offset + length;
    const first = clearer ? alignUp(offset, clearer.unit) : end;
    const last = clearer && end < size ? alignDown(end, clearer.unit) : end;
    if (!clearer || first >= last) return rest(offset, length);
    if (offset < first) await rest(offset, first - offset);
    await this.#units.run(first, last - first, async () => {
      this.#grace.after(await clearer.clear(first, last - first, how));
    });
    if (last < end) await rest(last, end - last);
  }

  async #discardParts(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; ) {
      const location = await this.#mapping.locate(offset + done, length - done);
      const part = Math.min(location.length, length - done);
      if (location.kind === "data" && !location.shared) await location.device.discard(location.offset, part);
      done += part;
    }
  }

  async *extents(offset: number, length: number): AsyncGenerator<Extent> {
    for (let done = 0; done < length; ) {
      const location = await this.#mapping.locate(offset + done, length - done);
      const part = Math.min(location.length, length - done);
      const start = offset + done;
      if (location.kind === "zero") {
        yield { offset: start, length: part, data: false, zero: true, present: false, depth: 0, hostOffset: null };
      } else {
        const shift = start - location.offset;
        for await (const extent of location.device.extents(location.offset, part))
          yield { ...extent, offset: extent.offset + shift, depth: extent.depth + (location.shared ? 1 : 0) };
      }
      done += part;
    }
  }

  async fileRange(offset: number, length: number): Promise<FileRange | null> {
    const location = await this.#mapping.locate(offset, length);
    if (location.kind === "zero") return null;
    const range = await asFileRange(location.device, location.offset, Math.min(location.length, length));
    return range && { ...range, exclusive: range.exclusive && !location.shared };
  }

  /** Walks the runs of a range: runs without a place of their own get one. */
  #update(offset: number, length: number, change: Change): Promise<void> {
    const work = () => this.#updateRuns(offset, length, change);
    return this.#mapping.clearer ? this.#grace.run(work) : work();
  }

  async #updateRuns(offset: number, length: number, change: Change): Promise<void> {
    for (let done = 0; done < length; ) {
      const location = await this.#mapping.locate(offset + done, length - done);
      const part = Math.min(location.length, length - done);
      const written = change.inPlace(location, done, part);
      if (written) {
        await written;
        done += part;
      } else {
        done += await this.#copyOnWrite(offset + done, part, done, change);
      }
    }
  }

  /** Gives units a place of their own and changes them there: one in part, or as many as are covered whole. Returns the bytes done. */
  #copyOnWrite(offset: number, length: number, at: number, change: Change): Promise<number> {
    const { allocator, label, size } = this.#mapping;
    if (!allocator)
      throw new DiskError(
        "READ_ONLY",
        `Cannot write ${label}: bytes at ${offset} have no place of their own and cannot get one`,
      );
    const { unit } = allocator;
    const start = alignDown(offset, unit);
    const end = Math.min(offset + length, size);
    const whole = end === size ? end - offset : alignDown(length, unit);
    const isWhole = start === offset && whole > 0;
    const covered = isWhole ? whole : Math.min(unit, size - start);
    return this.#units.run(start, covered, async () => {
      // Somebody else may have given the unit its place while we waited.
      const part = Math.min(length, start + covered - offset);
      const location = await this.#mapping.locate(offset, part);
      const here = Math.min(part, location.length);
      const written = change.inPlace(location, at, here);
      if (written) {
        await written;
        return here;
      }
      // A run may end within a unit, where the image beneath ends.
      const asked = isWhole ? Math.min(covered, alignUp(here, unit)) : covered;
      const place = await allocator.allocate(start, asked);
      const placed = Math.min(place.length ?? unit, asked);
      await place.device.write(
        place.offset,
        isWhole ? change.whole(at, placed) : await this.#changedUnit(start, placed, offset, part, at, change),
      );
      await place.commit();
      return isWhole ? placed : part;
    });
  }

  /** A unit's old bytes with the new ones among them. */
  async #changedUnit(
    start: number,
    size: number,
    offset: number,
    length: number,
    at: number,
    change: Change,
  ): Promise<Uint8Array> {
    const unit = new Uint8Array(size);
    await this.#read(start, unit);
    change.within(unit, offset - start, length, at);
    return unit;
  }
}

/** What a request does to the bytes of its range; `at` counts from the begin of the request. */
interface Change {
  /** Changes a run where it lies; undefined when it cannot be changed there. */
  inPlace(location: Location, at: number, length: number): Promise<void> | undefined;
  /** The new bytes of a part of the range. */
  whole(at: number, length: number): Uint8Array;
  /** Changes `length` bytes of `unit` from `from` on. */
  within(unit: Uint8Array, from: number, length: number, at: number): void;
}

function readLocation(location: Location, into: Uint8Array): Promise<void> | undefined {
  if (location.kind === "data") return location.device.read(location.offset, into);
  into.fill(0);
  return undefined;
}
