/**
 * A format does not read or write: it maps. This is the one read loop, the one write loop, the one copy-on-write
 * and the one walk of extents for everything that translates addresses: slices, partitions, volumes, overlays, image formats.
 *
 * Copy-on-write of one unit:   allocate -> fill (old bytes around the new ones) -> write -> commit (links the unit)
 * A cut before commit() leaves the old contents and at most a leaked unit; after it the new contents. Nothing between.
 */
import { alignDown } from "../bytes/align.js";
import { DiskError } from "../errors.js";
import { type BlockDevice, defineDevice, type Extent } from "./device.js";
import { asFileRange, type FileRange, withFileRange } from "./file-range.js";

/** Where a run of guest-visible bytes lies. `length` is at least 1 and may exceed what was asked for. */
export type Location =
  /** `shared`: the bytes belong to somebody else too (a backing device, a snapshot) and are never written there. */
  | { kind: "data"; device: BlockDevice; offset: number; length: number; shared: boolean }
  | { kind: "zero"; length: number };

export interface Allocation {
  device: BlockDevice;
  offset: number;
  /** Links the unit; called once, after all of its data is in place. */
  commit(): Promise<void>;
}

export interface Mapping extends Pick<BlockDevice, "label" | "size" | "blockSize" | "writable"> {
  locate(offset: number, length: number): Promise<Location>;
  /** Needed when shared or zero runs may be written; `unit` in bytes, `allocate` takes the unit's guest offset. */
  readonly allocator?: { unit: number; allocate(offset: number): Promise<Allocation> };
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
  readonly #units = new KeyedLock();

  constructor(mapping: Mapping) {
    this.#mapping = mapping;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
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
    return this.#update(
      offset,
      data.length,
      (location, done, length) => {
        if (location.kind === "data" && !location.shared)
          return location.device.write(location.offset, data.subarray(done, done + length));
        return undefined;
      },
      (unit, from, length, at) => unit.set(data.subarray(at, at + length), from),
    );
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#update(
      offset,
      length,
      (location, _done, part) => {
        if (location.kind === "zero") return Promise.resolve();
        return location.shared ? undefined : location.device.zero(location.offset, part);
      },
      (unit, from, part) => unit.fill(0, from, from + part),
    );
  }

  async discard(offset: number, length: number): Promise<void> {
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

  /** Walks the runs of a range: `direct` changes a run where it lies, or returns undefined when the run needs a unit of its own. */
  async #update(
    offset: number,
    length: number,
    direct: (location: Location, done: number, length: number) => Promise<void> | undefined,
    change: (unit: Uint8Array, from: number, length: number, at: number) => void,
  ): Promise<void> {
    for (let done = 0; done < length; ) {
      const location = await this.#mapping.locate(offset + done, length - done);
      const part = Math.min(location.length, length - done);
      const written = direct(location, done, part);
      if (written) {
        await written;
        done += part;
      } else {
        done += await this.#copyOnWrite(offset + done, part, done, direct, change);
      }
    }
  }

  /** Gives one unit a place of its own and changes it there. Returns how many bytes of the range it covered. */
  #copyOnWrite(
    offset: number,
    length: number,
    at: number,
    direct: (location: Location, done: number, length: number) => Promise<void> | undefined,
    change: (unit: Uint8Array, from: number, length: number, at: number) => void,
  ): Promise<number> {
    const { allocator, label, size } = this.#mapping;
    if (!allocator)
      throw new DiskError(
        "READ_ONLY",
        `Cannot write ${label}: bytes at ${offset} have no place of their own and cannot get one`,
      );
    const unitOffset = alignDown(offset, allocator.unit);
    const unitLength = Math.min(allocator.unit, size - unitOffset);
    const part = Math.min(length, unitOffset + unitLength - offset);
    return this.#units.run(unitOffset, async () => {
      // Somebody else may have given the unit its place while we waited.
      const location = await this.#mapping.locate(offset, part);
      const here = Math.min(part, location.length);
      const written = direct(location, at, here);
      if (written) {
        await written;
        return here;
      }
      const unit = new Uint8Array(unitLength);
      if (part < unitLength) await this.read(unitOffset, unit);
      change(unit, offset - unitOffset, part, at);
      const place = await allocator.allocate(unitOffset);
      await place.device.write(place.offset, unit);
      await place.commit();
      return part;
    });
  }
}

function readLocation(location: Location, into: Uint8Array): Promise<void> | undefined {
  if (location.kind === "data") return location.device.read(location.offset, into);
  into.fill(0);
  return undefined;
}

/** Runs tasks of one key one after the other, tasks of different keys at once. */
class KeyedLock {
  readonly #last = new Map<number, Promise<unknown>>();

  async run<T>(key: number, task: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const mine = before.then(task, task);
    this.#last.set(key, mine);
    try {
      return await mine;
    } finally {
      if (this.#last.get(key) === mine) this.#last.delete(key);
    }
  }
}
