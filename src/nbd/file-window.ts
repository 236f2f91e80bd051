/** An export whose bytes lie in one file as they are: any thread of the process can read and write it by the file's descriptor. */
import { type BlockDevice, defineDevice, type Extent } from "../block/device.js";
import { fileDevice } from "../block/file.js";
import { asFileRange } from "../block/file-range.js";
import { openedFile } from "../os/file.js";
import { type Export, isReadOnly } from "./exports.js";

/** Can be sent to another thread. The descriptor stays its owner's, who keeps it open for as long as the window is used. */
export interface FileWindow {
  readonly fd: number;
  readonly path: string;
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
  const { fd, path } = range.file;
  return {
    fd,
    path,
    label: device.label,
    offset: range.offset,
    size: device.size,
    blockSize: device.blockSize,
    writable,
  };
}

/** The device of the window. Closing it leaves the descriptor open. */
export function openWindow({ fd, path, label, offset: start, size, blockSize, writable }: FileWindow): BlockDevice {
  const file = fileDevice(openedFile(fd, path, writable), { label, own: false, sizeOverride: start + size });
  return defineDevice({
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
}

async function* shifted(extents: AsyncIterable<Extent>, start: number): AsyncGenerator<Extent> {
  for await (const extent of extents) yield { ...extent, offset: extent.offset - start };
}
