/**
 * What table readers see of a disk: its first and last 34 KiB, read at once, and a few more blocks on request.
 * That is a healthy table's two reads, whatever the disk's size. A hostile table that asks for more than 1 MiB in total is refused.
 */
import type { BlockDevice } from "../block/device.js";
import { alignDown, alignUp } from "../bytes/align.js";
import { DiskError } from "../errors.js";

/** Holds an MBR, GPT headers at 512 and 4096 and their arrays of 128 entries; at the disk's end the same of the backup. */
export const WINDOW = 34 * 1024;
const BUDGET = 1 << 20;

export interface TableView {
  /** The disk's label. */
  readonly label: string;
  /** Bytes. */
  readonly size: number;
  /** The first `WINDOW` bytes, or all of a smaller disk. */
  readonly head: Uint8Array;
  /** Bytes of the disk; the caller keeps the range within `size`. May be a view of a shared buffer: not to be changed. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

export async function openTableView(device: BlockDevice): Promise<TableView> {
  const { label, size, blockSize } = device;
  let left = BUDGET;

  async function load(from: number, to: number): Promise<{ from: number; bytes: Uint8Array }> {
    left -= to - from;
    if (left < 0)
      throw new DiskError(
        "CORRUPT",
        `Cannot read the partition table of ${label}: it takes more than ${BUDGET} bytes to read`,
      );
    const bytes = new Uint8Array(to - from);
    await device.read(from, bytes);
    return { from, bytes };
  }

  const headEnd = Math.min(size, alignUp(WINDOW, blockSize));
  const tailStart = Math.max(headEnd, alignDown(Math.max(0, size - WINDOW), blockSize));
  const windows = await Promise.all(tailStart < size ? [load(0, headEnd), load(tailStart, size)] : [load(0, headEnd)]);

  return {
    label,
    size,
    head: windows[0]!.bytes,
    async read(offset, length) {
      const held = windows.find(({ from, bytes }) => offset >= from && offset + length <= from + bytes.length);
      const window =
        held ?? (await load(alignDown(offset, blockSize), Math.min(size, alignUp(offset + length, blockSize))));
      return window.bytes.subarray(offset - window.from, offset - window.from + length);
    },
  };
}
