/** An export whose bytes lie in one file as they are: any thread of the process can read and write it by the file's descriptor. */
import { defineDevice, type Extent } from "../block/device.js";
import { fileDevice } from "../block/file.js";
import { asFileRange } from "../block/file-range.js";
import { type OpenFile, openedFile } from "../os/file.js";
import type { Libc } from "../os/libc.js";
import { type CachedBytes, type Export, isReadOnly } from "./exports.js";

/** Can be sent to another thread. The descriptor stays its owner's, who keeps it open for as long as the window is used. */
export interface FileWindow {
  readonly fd: number;
  readonly path: string;
  /** Bytes. What lies behind them reads as zeros. */
  readonly fileSize: number;
  readonly label: string;
  /** Byte of the file where the export begins. */
  readonly offset: number;
  readonly size: number; // bytes
  readonly blockSize: number; // bytes
  readonly writable: boolean;
}

/** Null for an export that only its own device can serve. */
export async function fileWindow(exported: Export): Promise<FileWindow | null> {
  const { device } = exported;
  if (device.size === 0 || exported.dirtyBitmap) return null;
  const range = await asFileRange(device, 0, device.size);
  const writable = !isReadOnly(exported);
  if (!range || range.length < device.size || (writable && !(range.exclusive && range.file.writable))) return null;
  const { fd, path, size: fileSize } = range.file;
  return {
    fd,
    path,
    fileSize,
    label: device.label,
    offset: range.offset,
    size: device.size,
    blockSize: device.blockSize,
    writable,
  };
}

/** The window as its device, and what of it is in the page cache. Closing the device leaves the descriptor open. */
export function openWindow(window: FileWindow): Pick<Export, "device" | "cached"> {
  const { fd, path, label, offset: start, size, blockSize, writable } = window;
  const opened = openedFile(fd, path, writable, { size: window.fileSize });
  const file = fileDevice(opened, { label, own: false, sizeOverride: start + size });
  const device = defineDevice({
    label,
    size,
    blockSize,
    writable,
    read: (offset, into) => file.read(start + offset, into),
    write: (offset, data) => file.write(start + offset, data),
    zero: (offset, length) => file.zero(start + offset, length),
    discard: (offset, length) => file.discard(start + offset, length),
    extents: (offset, length) => shifted(file.extents(start + offset, length), start),
    flush: () => file.flush(),
  });
  return { device, ...(opened.native && { cached: new CachedWindow(opened, opened.native, start) }) };
}

class CachedWindow implements CachedBytes {
  readonly #file: OpenFile;
  readonly #native: Libc;
  readonly #start: number;
  /** Where it lies in memory is asked once for many reads. */
  #block: Buffer = NO_BLOCK;
  #address = 0;
  /** The last run that was found to be data. One that became a hole since is still right to read: as zeros. */
  #dataFrom = 0;
  #dataEnd = 0;

  constructor(file: OpenFile, native: Libc, start: number) {
    this.#file = file;
    this.#native = native;
    this.#start = start;
  }

  read(offset: number, length: number, block: Buffer, at: number): boolean {
    if (block !== this.#block) {
      this.#block = block;
      this.#address = this.#native.address(block);
    }
    return this.#native.readCachedAt(this.#file.fd, this.#address + at, length, this.#start + offset) === length;
  }

  isData(offset: number, length: number): boolean {
    const from = this.#start + offset;
    const end = from + length;
    if (from >= this.#dataFrom && end <= this.#dataEnd) return true;
    const run = this.#file.runAt(from, Number.MAX_SAFE_INTEGER);
    if (!run.data || run.end < end) return false;
    this.#dataFrom = from;
    this.#dataEnd = run.end;
    return true;
  }
}

const NO_BLOCK = Buffer.alloc(0);

async function* shifted(extents: AsyncIterable<Extent>, start: number): AsyncGenerator<Extent> {
  for await (const extent of extents) yield { ...extent, offset: extent.offset - start };
}
