/** Devices that a test holds in its hand: with holes, with a gate before every read and write, with errors. */
import { type BlockDevice, defineDevice, type Extent } from "#src/block/device.js";

/** A device of `size` bytes in memory whose 4 KiB units are holes until written. */
export function sparseDevice(size: number, blockSize = 512): BlockDevice {
  const UNIT = 4096;
  const bytes = Buffer.alloc(size);
  const allocated = new Set<number>();
  const mark = (offset: number, length: number) => {
    for (let unit = Math.floor(offset / UNIT); unit * UNIT < offset + length; unit++) allocated.add(unit);
  };
  return defineDevice({
    label: "sparse",
    size,
    blockSize,
    async read(offset, into) {
      into.set(bytes.subarray(offset, offset + into.length));
    },
    async write(offset, data) {
      bytes.set(data, offset);
      mark(offset, data.length);
    },
    async zero(offset, length) {
      bytes.fill(0, offset, offset + length);
      for (let unit = Math.ceil(offset / UNIT); (unit + 1) * UNIT <= offset + length; unit++) allocated.delete(unit);
    },
    async *extents(offset, length) {
      for (let at = offset; at < offset + length; ) {
        const end = Math.min((Math.floor(at / UNIT) + 1) * UNIT, offset + length);
        const data = allocated.has(Math.floor(at / UNIT));
        yield { offset: at, length: end - at, data, zero: !data, present: true, depth: 0, hostOffset: null };
        at = end;
      }
    },
  });
}

export interface Gate {
  readonly device: BlockDevice;
  /** Payload bytes that are in the device now, and the most that ever were. */
  readonly inside: () => { bytes: number; requests: number; most: number };
  /** Lets everything through from now on. */
  open(): void;
  /** Resolves when at least `requests` wait at the gate. */
  waiting(requests: number): Promise<void>;
}

/** Reads and writes wait at the gate until it is opened. */
export function gatedDevice(size: number): Gate {
  let release!: () => void;
  const opened = new Promise<void>((resolve) => (release = resolve));
  let [bytes, requests, most] = [0, 0, 0];
  let arrived: () => void = () => {};
  const pass = async (length: number) => {
    bytes += length;
    requests++;
    most = Math.max(most, bytes);
    arrived();
    await opened;
    bytes -= length;
    requests--;
  };
  return {
    device: defineDevice({
      label: "gated",
      size,
      read: async (_offset, into) => pass(into.length).then(() => void into.fill(0x5a)),
      write: (_offset, data) => pass(data.length),
    }),
    inside: () => ({ bytes, requests, most }),
    open: () => release(),
    async waiting(count) {
      while (requests < count) await new Promise<void>((resolve) => (arrived = resolve));
    },
  };
}

export async function collect(device: BlockDevice, offset = 0, length = device.size): Promise<Extent[]> {
  const found: Extent[] = [];
  for await (const extent of device.extents(offset, length)) found.push(extent);
  return found;
}
