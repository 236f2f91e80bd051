/** A device with larger blocks made byte-granular: blocks that a write covers only in part are read, changed and written back. */
import { alignDown, alignUp } from "../bytes/align.js";
import { type BlockDevice, defineDevice } from "./device.js";
import { asFileRange, withFileRange } from "./file-range.js";
import { RangeLock } from "./range-lock.js";

/**
 * The device itself when it takes any byte already. Otherwise one over it, which does not own it; all writers of
 * partial blocks must go through the same one, because a block is rewritten whole.
 */
export function byteGranular(device: BlockDevice): BlockDevice {
  if (device.blockSize === 1) return device;
  const io = new BlockwiseIo(device);
  const fine = defineDevice({
    label: device.label,
    get size() {
      return device.size;
    },
    writable: device.writable,
    read: (offset, into) => io.read(offset, into),
    write: (offset, data) => io.change(offset, data.length, (at, length) => data.subarray(at, at + length)),
    zero: (offset, length) => io.change(offset, length, () => null),
    discard: (offset, length) => io.discard(offset, length),
    extents: (offset, length) => io.extents(offset, length),
    flush: () => device.flush(),
  });
  return withFileRange(fine, (offset, length) => asFileRange(device, offset, length));
}

/** The new bytes of a part of the range, or null for zeros. */
type Change = (at: number, length: number) => Uint8Array | null;

class BlockwiseIo {
  readonly #device: BlockDevice;
  readonly #block: number;
  readonly #ranges = new RangeLock();

  constructor(device: BlockDevice) {
    this.#device = device;
    this.#block = device.blockSize;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    const whole = offset % this.#block === 0 && into.length % this.#block === 0;
    return whole ? this.#device.read(offset, into) : this.#readParts(offset, into);
  }

  async #readParts(offset: number, into: Uint8Array): Promise<void> {
    for (const part of this.#parts(offset, into.length)) {
      const target = into.subarray(part.at, part.at + part.length);
      if (part.whole) await this.#device.read(offset + part.at, target);
      else target.set((await this.#readBlock(part.blockOffset)).subarray(part.from, part.from + part.length));
    }
  }

  /** Every change holds its blocks: a whole-block write must not fall between another one's read and write-back. */
  change(offset: number, length: number, change: Change): Promise<void> {
    const start = alignDown(offset, this.#block);
    return this.#ranges.run(start, alignUp(offset + length, this.#block) - start, async () => {
      for (const part of this.#parts(offset, length)) {
        const bytes = change(part.at, part.length);
        if (!part.whole) await this.#changeBlock(part, bytes);
        else if (bytes) await this.#device.write(offset + part.at, bytes);
        else await this.#device.zero(offset + part.at, part.length);
      }
    });
  }

  /** Only whole blocks: a hint about a part of one is dropped. */
  async discard(offset: number, length: number): Promise<void> {
    const start = alignUp(offset, this.#block);
    const end = alignDown(offset + length, this.#block);
    if (start < end) await this.#ranges.run(start, end - start, () => this.#device.discard(start, end - start));
  }

  async *extents(offset: number, length: number) {
    const start = alignDown(offset, this.#block);
    const end = offset + length;
    for await (const extent of this.#device.extents(start, alignUp(end, this.#block) - start)) {
      const first = Math.max(extent.offset, offset);
      const last = Math.min(extent.offset + extent.length, end);
      if (first >= last) continue;
      const hostOffset = extent.hostOffset === null ? null : extent.hostOffset + first - extent.offset;
      yield { ...extent, offset: first, length: last - first, hostOffset };
    }
  }

  async #changeBlock(part: Part, bytes: Uint8Array | null): Promise<void> {
    const block = await this.#readBlock(part.blockOffset);
    if (bytes) block.set(bytes, part.from);
    else block.fill(0, part.from, part.from + part.length);
    await this.#device.write(part.blockOffset, block);
  }

  async #readBlock(blockOffset: number): Promise<Uint8Array> {
    const block = new Uint8Array(this.#block);
    await this.#device.read(blockOffset, block);
    return block;
  }

  /** A first block in part, whole blocks in one piece, a last block in part; each only where there is one. */
  *#parts(offset: number, length: number): Generator<Part> {
    const end = offset + length;
    const wholeStart = alignUp(offset, this.#block);
    const wholeEnd = alignDown(end, this.#block);
    if (offset < wholeStart) yield this.#partOf(offset, Math.min(wholeStart, end), offset);
    if (wholeStart < wholeEnd)
      yield { at: wholeStart - offset, length: wholeEnd - wholeStart, whole: true, blockOffset: wholeStart, from: 0 };
    if (wholeEnd < end && wholeEnd >= wholeStart) yield this.#partOf(wholeEnd, end, offset);
  }

  #partOf(start: number, end: number, offset: number): Part {
    const blockOffset = alignDown(start, this.#block);
    return { at: start - offset, length: end - start, whole: false, blockOffset, from: start - blockOffset };
  }
}

interface Part {
  /** Bytes from the start of the range. */
  readonly at: number;
  readonly length: number;
  readonly whole: boolean;
  readonly blockOffset: number;
  /** Bytes from the start of the block. */
  readonly from: number;
}
