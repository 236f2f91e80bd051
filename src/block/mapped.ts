/**
 * A format does not read or write: it maps. This is the one read loop, the one write loop, the one copy-on-write
 * and the one walk of extents for everything that translates addresses: slices, partitions, volumes, overlays, image formats.
 *
 * Copy-on-write of units:   allocate -> fill (old bytes around the new ones) -> write -> commit (links the units)
 * A cut before commit() leaves the old contents and at most leaked units; after it the new contents. Nothing between.
 */
import { alignDown, alignUp } from "../bytes/align.js";
import { DiskError } from "../errors.js";
import { type BlockDevice, defineDevice, type Extent } from "./device.js";
import { asFileRange, type FileRange, withFileRange } from "./file-range.js";
import { RangeLock } from "./range-lock.js";

/** Where a run of guest-visible bytes lies. `length` is at least 1 and may exceed what was asked for. */
export type Location =
  /**
   * `shared`: the bytes belong to somebody else too (a backing device, a snapshot) and are never written there.
   * `depth`: layers down, as `extents` counts them; default 1 when shared, else 0.
   */
  | { kind: "data"; device: BlockDevice; offset: number; length: number; shared: boolean; depth?: number }
  /** `present`: these zeros are noted here and hide what lies below. `hostOffset`: the place that they keep. */
  | { kind: "zero"; length: number; present?: boolean; hostOffset?: number };

export interface Allocation {
  device: BlockDevice;
  offset: number;
  /** Guest range that the place holds; default the one unit that was asked for. */
  start?: number;
  length?: number;
  /** The place reads as zeros now: zeros need not be written to it. */
  zeroed?: boolean;
  /** Links the place; called once, after all of its data is in place. */
  commit(): Promise<void>;
  /** Gives the place back, instead of `commit`, because its data could not be written. */
  cancel?(): Promise<void>;
}

export interface Allocator {
  /** Bytes; no two copies-on-write are under way in one unit. */
  unit: number;
  /**
   * A place for the unit at `offset`, of which the bytes from `start` on are to change. None of the `length` bytes there has a place of
   * its own; they are whole units, or a part of this one. The place may hold some of the following units too, or, where units are
   * divided, only the parts that are touched.
   */
  allocate(offset: number, start: number, length: number): Promise<Allocation>;
  /** What `zero` and `discard` take multiples of; default `unit`. The end of the device counts as one. */
  grain?: number;
  /** Makes bytes read as zeros without data, from `offset` on. Resolves to how many, 0 when zeros must be written. */
  zero?(offset: number, length: number): Promise<number>;
  /** Gives space back, from `offset` on. Resolves to for how many bytes, 0 when it cannot here. */
  discard?(offset: number, length: number): Promise<number>;
}

export interface Mapping extends Pick<BlockDevice, "label" | "size" | "blockSize" | "writable"> {
  /** Without a promise where nothing waits: this is asked for every request. */
  locate(offset: number, length: number): Location | Promise<Location>;
  /** Needed when shared or zero runs may be written. */
  readonly allocator?: Allocator;
  /**
   * Held by every change, over its range. Needed where places can be taken away (`zero` and `discard` of the allocator, snapshots):
   * a place is let go only when no write to it is under way. Whoever changes everything holds all of it.
   */
  readonly changes?: RangeLock;
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
    flush: () => mapping.flush?.() ?? DONE,
    close: () => mapping.close?.() ?? DONE,
  });
  return withFileRange(device, (offset, length) => io.fileRange(offset, length));
}

const DONE: Promise<void> = Promise.resolve();

/** How one request changes bytes. `at` counts from the start of the request. */
interface Change {
  /** Where the bytes lie now; undefined when they need a place of their own. */
  direct(location: Location, at: number, length: number): Promise<void> | undefined;
  /** What to put there. */
  bytes(at: number, length: number): Uint8Array;
  /** Tried before `direct`, on whole grains; resolves to how many bytes are done. */
  release?: ((offset: number, length: number) => Promise<number>) | undefined;
}

class MappedIo {
  readonly #mapping: Mapping;
  readonly #units = new RangeLock();

  constructor(mapping: Mapping) {
    this.#mapping = mapping;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    const first = this.#mapping.locate(offset, into.length);
    if (first instanceof Promise || first.length < into.length) return this.#readRuns(first, offset, into);
    return readLocation(first, into) ?? DONE; // the common case: one run, no copy of the view, nothing to wait for here
  }

  async #readRuns(first: Location | Promise<Location>, offset: number, into: Uint8Array): Promise<void> {
    let done = 0;
    for (let next = first; ; next = this.#mapping.locate(offset + done, into.length - done)) {
      const location = await next;
      const length = Math.min(location.length, into.length - done);
      await readLocation(location, into.subarray(done, done + length));
      done += length;
      if (done === into.length) return;
    }
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#exclusively(offset, data.length, {
      direct: (location, at, length) =>
        location.kind === "data" && !location.shared
          ? location.device.write(location.offset, data.subarray(at, at + length))
          : undefined,
      bytes: (at, length) => data.subarray(at, at + length),
    });
  }

  zero(offset: number, length: number): Promise<void> {
    const { allocator } = this.#mapping;
    return this.#exclusively(offset, length, {
      release: allocator?.zero?.bind(allocator),
      direct(location, _at, part) {
        if (location.kind === "zero") return DONE;
        return location.shared ? undefined : location.device.zero(location.offset, part);
      },
      bytes: (_at, part) => new Uint8Array(part),
    });
  }

  discard(offset: number, length: number): Promise<void> {
    const { allocator } = this.#mapping;
    return this.#exclusively(offset, length, {
      release: allocator?.discard?.bind(allocator),
      direct: (location, _at, part) =>
        location.kind === "data" && !location.shared ? location.device.discard(location.offset, part) : DONE,
      bytes: (_at, part) => new Uint8Array(part),
    });
  }

  async *extents(offset: number, length: number): AsyncGenerator<Extent> {
    for (let done = 0; done < length; ) {
      const location = await this.#mapping.locate(offset + done, length - done);
      const part = Math.min(location.length, length - done);
      const start = offset + done;
      if (location.kind === "zero") {
        const { present = false, hostOffset = null } = location;
        yield { offset: start, length: part, data: false, zero: true, present, depth: 0, hostOffset };
      } else {
        const shift = start - location.offset;
        const depth = location.depth ?? (location.shared ? 1 : 0);
        for await (const extent of location.device.extents(location.offset, part))
          yield { ...extent, offset: extent.offset + shift, depth: extent.depth + depth };
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

  #exclusively(offset: number, length: number, change: Change): Promise<void> {
    const { changes } = this.#mapping;
    return changes
      ? changes.run(offset, length, () => this.#update(offset, length, change))
      : this.#update(offset, length, change);
  }

  /** Walks the runs of a range. */
  async #update(offset: number, length: number, change: Change): Promise<void> {
    for (let done = 0; done < length; ) {
      const released = change.release ? await this.#release(offset + done, length - done, change.release) : 0;
      done += released;
      if (released > 0) continue;
      const location = await this.#mapping.locate(offset + done, this.#upToGrain(offset + done, length - done, change));
      const part = Math.min(location.length, this.#upToGrain(offset + done, length - done, change));
      const written = change.direct(location, done, part);
      if (written) {
        await written;
        done += part;
      } else {
        done += await this.#copyOnWrite(offset + done, part, done, change);
      }
    }
  }

  async #release(offset: number, length: number, release: NonNullable<Change["release"]>): Promise<number> {
    const grain = this.#grain;
    const end = offset + length === this.#mapping.size ? offset + length : alignDown(offset + length, grain);
    return offset % grain === 0 && end > offset ? release(offset, end - offset) : 0;
  }

  /** A change that can release stops at the next grain, to try again there. */
  #upToGrain(offset: number, length: number, change: Change): number {
    return change.release ? Math.min(length, alignDown(offset, this.#grain) + this.#grain - offset) : length;
  }

  get #grain(): number {
    const { allocator } = this.#mapping;
    return allocator?.grain ?? allocator?.unit ?? 1;
  }

  /** Gives one unit, or a run of whole ones, a place of its own and changes it there. Returns how many bytes of the range it covered. */
  #copyOnWrite(offset: number, length: number, at: number, change: Change): Promise<number> {
    const { allocator, label, size } = this.#mapping;
    if (!allocator)
      throw new DiskError(
        "READ_ONLY",
        `Cannot write ${label}: bytes at ${offset} have no place of their own and cannot get one`,
      );
    const { unit } = allocator;
    const first = alignDown(offset, unit);
    const whole = offset + length === size ? length : alignDown(length, unit);
    const wanted = first === offset && whole > 0 ? whole : Math.min(length, first + unit - offset);
    return this.#units.run(first, alignUp(offset + wanted, unit) - first, async () => {
      // Somebody else may have given the units their place while we waited.
      const location = await this.#mapping.locate(offset, wanted);
      const here = Math.min(wanted, location.length);
      const written = change.direct(location, at, here);
      if (written) {
        await written;
        return here;
      }
      const place = await allocator.allocate(first, offset, here);
      try {
        return await this.#fill(place, first, offset, here, at, change);
      } catch (error) {
        await place.cancel?.();
        throw error;
      }
    });
  }

  /** Writes the new bytes and the old ones around them to a new place, then links it. */
  async #fill(place: Allocation, first: number, offset: number, wanted: number, at: number, change: Change) {
    const start = place.start ?? first;
    const end = Math.min(start + (place.length ?? this.#mapping.allocator!.unit), this.#mapping.size);
    const length = Math.min(wanted, end - offset);
    const bytes = change.bytes(at, length);
    const whole = length === end - start;
    if (whole || (place.zeroed && (await this.#isZero(start, offset)) && (await this.#isZero(offset + length, end)))) {
      await place.device.write(place.offset + offset - start, bytes);
    } else {
      const old = new Uint8Array(end - start);
      await this.read(start, old);
      old.set(bytes, offset - start);
      await place.device.write(place.offset, old);
    }
    await place.commit();
    return length;
  }

  /** Whether a range is known to be zeros, without reading it. */
  async #isZero(start: number, end: number): Promise<boolean> {
    for (let at = start; at < end; ) {
      const location = await this.#mapping.locate(at, end - at);
      if (location.kind !== "zero") return false;
      at += location.length;
    }
    return true;
  }
}

function readLocation(location: Location, into: Uint8Array): Promise<void> | undefined {
  if (location.kind === "data") return location.device.read(location.offset, into);
  into.fill(0);
  return undefined;
}
