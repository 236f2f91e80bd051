/** Persistent bitmaps: the directory as values, and the flag that says that a bitmap was not kept up to date. Section Bitmaps. */
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import type { Qcow2Image } from "./image.js";
import {
  AUTOCLEAR,
  BITMAP_AUTO,
  BITMAP_IN_USE,
  EXTENSION,
  MAX_BITMAP_DIRECTORY_BYTES,
  MAX_BITMAPS,
  QCOW2_BITMAP_ENTRY,
  QCOW2_BITMAPS,
} from "./layout.js";

export interface Bitmap {
  /** Byte of the entry in the directory. */
  readonly at: number;
  readonly name: string;
  readonly tableOffset: number;
  readonly tableSize: number;
  readonly flags: number;
  /** Bytes that a bit stands for. */
  readonly granularity: number;
}

export interface BitmapDirectory {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly bitmaps: readonly Bitmap[];
}

/** Null when there are none, or when they are not consistent because somebody wrote who did not know them. */
export async function readBitmaps({ header, file, label, geometry }: Qcow2Image): Promise<BitmapDirectory | null> {
  if ((header.autoclear & AUTOCLEAR.bitmaps) === 0n) return null;
  const extension = header.extensions.find(({ type }) => type === EXTENSION.bitmaps);
  const corrupt = (found: string) => new DiskError("CORRUPT", `Cannot use ${label}: its bitmap directory ${found}`);
  if (!extension) throw corrupt("is missing");
  const { count, directoryOffset, directorySize } = QCOW2_BITMAPS.decode(extension.data);
  if (count > MAX_BITMAPS || directorySize > MAX_BITMAP_DIRECTORY_BYTES)
    throw corrupt(
      `has ${count} entries in ${directorySize} bytes, allowed ${MAX_BITMAPS} in ${MAX_BITMAP_DIRECTORY_BYTES}`,
    );
  if (
    directoryOffset % geometry.clusterSize !== 0 ||
    directoryOffset + directorySize > alignUp(file.size, geometry.clusterSize)
  )
    throw corrupt(`has ${directorySize} bytes at ${directoryOffset}, the file has ${file.size}`);
  const bytes = new Uint8Array(directorySize);
  await file.read(directoryOffset, bytes);
  const bitmaps: Bitmap[] = [];
  for (let at = 0; bitmaps.length < count; ) {
    const entry = QCOW2_BITMAP_ENTRY.decode(bytes, at);
    const nameAt = at + QCOW2_BITMAP_ENTRY.size + entry.extraDataSize;
    if (nameAt + entry.nameSize > bytes.length) throw corrupt(`ends within entry ${bitmaps.length}`);
    const name = new TextDecoder().decode(bytes.subarray(nameAt, nameAt + entry.nameSize));
    bitmaps.push({ ...entry, at, name, granularity: 2 ** Math.min(entry.granularityBits, 63) });
    at = alignUp(nameAt + entry.nameSize, 8);
  }
  return { offset: directoryOffset, bytes, bitmaps };
}

/**
 * Marks bitmaps as not up to date, each in its own sector at most. Before the first guest write: those that have to follow every
 * write, because nobody follows the writes here. Before another disk size: all, for a bitmap has the size of the disk.
 */
export async function markBitmapsInUse(image: Qcow2Image, which: "following" | "all"): Promise<void> {
  const directory = await readBitmaps(image);
  const stale = ({ flags }: Bitmap) => !(flags & BITMAP_IN_USE) && (which === "all" || (flags & BITMAP_AUTO) !== 0);
  const marked = directory?.bitmaps.filter(stale) ?? [];
  if (!directory || marked.length === 0) return;
  const view = new DataView(directory.bytes.buffer, directory.bytes.byteOffset);
  for (const { at, flags } of marked)
    view.setUint32(at + QCOW2_BITMAP_ENTRY.fields.flags.offset, flags | BITMAP_IN_USE);
  await image.file.write(directory.offset, directory.bytes);
  await image.barrier();
}
