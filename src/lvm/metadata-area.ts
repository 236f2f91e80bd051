/**
 * One metadata area: a header sector and a ring of texts behind it.
 *
 *   0        512                                        size
 *   header | text | … zeros to the sector's end | next text …     a text that reaches the end goes on at 512
 *
 * A text takes at most half of the ring, so that writing the next one never touches the one in force. LVM2 lib/format_text/format-text.c.
 */

import type { BlockDevice } from "../block/device.js";
import { alignUp } from "../bytes/align.js";
import { DiskError } from "../errors.js";
import { lvmCrc } from "./crc.js";
import type { DiskArea } from "./label.js";
import { METADATA_AREA_HEADER, type MetadataAreaHeader, SECTOR, TEXT_LOCATION } from "./layout.js";

const IGNORED = 1;
/** The longest text that is read into memory; LVM2's default areas hold half a mebibyte. */
const MAX_TEXT = 128 << 20;

/** Where a text lies within its area. */
export interface TextLocation {
  /** Bytes from the begin of the area, a multiple of 512. */
  readonly offset: number;
  /** Bytes, the ending zero included. */
  readonly size: number;
  readonly crc: number;
}

export interface MetadataArea {
  readonly offset: number;
  readonly size: number;
  readonly ignored: boolean;
  /** Null: no text is in force. */
  readonly committed: TextLocation | null;
  /** Bytes of the header as they were read; null when it could not be used. */
  readonly header: MetadataAreaHeader | null;
  /** Why the header could not be used. */
  readonly problem: string | null;
}

/** Reads and judges the header. Never throws for what the bytes say. */
export async function readAreaHeader(device: BlockDevice, { offset, size }: DiskArea): Promise<MetadataArea> {
  const broken = (problem: string): MetadataArea => ({
    offset,
    size,
    ignored: false,
    committed: null,
    header: null,
    problem,
  });
  if (offset > device.size - size || size < 4 * SECTOR || offset % SECTOR !== 0 || size % SECTOR !== 0)
    return broken(`the area at byte ${offset} with ${size} bytes does not fit the device of ${device.size}`);
  const bytes = new Uint8Array(SECTOR);
  await device.read(offset, bytes);
  try {
    return decodeHeader(bytes, { offset, size });
  } catch (error) {
    if (error instanceof DiskError) return broken(error.message);
    throw error;
  }
}

/** Throws `CORRUPT`. */
function decodeHeader(bytes: Uint8Array, { offset, size }: DiskArea): MetadataArea {
  const bad = (found: string) =>
    new DiskError("CORRUPT", `Cannot read LVM2 metadata area header: ${found} (byte ${offset})`);
  const crc = lvmCrc(bytes.subarray(4));
  const stored = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (stored !== crc) throw bad(`its checksum is 0x${stored.toString(16)}, allowed 0x${crc.toString(16)}`);
  const header = METADATA_AREA_HEADER.decode(bytes);
  if (header.start !== offset) throw bad(`it says that it begins at byte ${header.start}`);
  if (header.size !== size) throw bad(`its size is ${header.size}, the label says ${size}`);
  const slot = TEXT_LOCATION.decode(header.committed);
  const ignored = (slot.flags & IGNORED) !== 0;
  const area = { offset, size, ignored, header, problem: null };
  if (ignored || (slot.offset === 0n && slot.size === 0n)) return { ...area, committed: null };
  const ring = BigInt(size - SECTOR);
  const fits = slot.offset >= BigInt(SECTOR) && slot.offset < BigInt(size) && slot.size > 0n && slot.size <= ring;
  if (!fits) throw bad(`its text lies at ${slot.offset} with ${slot.size} bytes, allowed within ${SECTOR}..${size}`);
  return { ...area, committed: { offset: Number(slot.offset), size: Number(slot.size), crc: slot.crc } };
}

/** The text in force. Throws `CORRUPT` when its checksum is wrong. */
export async function readText(device: BlockDevice, area: DiskArea, location: TextLocation): Promise<string> {
  const where = `LVM2 metadata of ${device.label}`;
  if (location.size > MAX_TEXT)
    throw new DiskError("UNSUPPORTED", `Cannot read ${where}: ${location.size} bytes of text, allowed ${MAX_TEXT}`);
  const bytes = await readRing(device, area, location.offset, location.size);
  const crc = lvmCrc(bytes);
  if (crc !== location.crc)
    throw new DiskError(
      "CORRUPT",
      `Cannot read ${where}: the checksum of the text is 0x${crc.toString(16)}, allowed 0x${location.crc.toString(16)} (byte ${area.offset + location.offset})`,
    );
  return decodeText(bytes);
}

/** Metadata is ASCII; other bytes, which only a foreign writer leaves, come through as Latin-1 and go back as they were. */
export function decodeText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1").replace(/\0+$/, "");
}

/** With the zero that ends it. */
export function encodeText(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(`${text}\0`, "latin1"));
}

async function readRing(device: BlockDevice, area: DiskArea, offset: number, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  const first = Math.min(size, area.size - offset);
  await device.read(area.offset + offset, bytes.subarray(0, first));
  if (first < size) await device.read(area.offset + SECTOR, bytes.subarray(first));
  return bytes;
}

/** The longest text that an area takes, its ending zero included. */
export function maxTextSize({ size }: DiskArea): number {
  return Math.floor((size - SECTOR) / 2) - SECTOR;
}

export interface AreaWrite {
  /** Bytes from the begin of the device; whole sectors. */
  readonly offset: number;
  readonly data: Uint8Array;
}

/** The place behind the text in force. */
export function nextTextOffset({ size, committed }: MetadataArea): number {
  if (!committed) return SECTOR;
  const end = committed.offset + committed.size;
  const next = alignUp(end > size ? SECTOR + end - size : end, SECTOR);
  return next > size - SECTOR ? SECTOR : next;
}

/** The writes that put a text into the ring, and where it lies then. Throws `NO_SPACE` for a text that is too long. */
export function planText(area: MetadataArea, text: Uint8Array): { location: TextLocation; writes: AreaWrite[] } {
  const most = maxTextSize(area);
  if (text.length > most)
    throw new DiskError(
      "NO_SPACE",
      `Cannot write volume group: its metadata takes ${text.length} bytes, the metadata area at byte ${area.offset} takes ${most}`,
    );
  const offset = nextTextOffset(area);
  const padded = new Uint8Array(alignUp(text.length, SECTOR));
  padded.set(text);
  const first = Math.min(padded.length, area.size - offset);
  const writes = [{ offset: area.offset + offset, data: padded.subarray(0, first) }];
  if (first < padded.length) writes.push({ offset: area.offset + SECTOR, data: padded.subarray(first) });
  return { location: { offset, size: text.length, crc: lvmCrc(text) }, writes };
}

/** A header sector. Keeps what the old one held in its unknown bytes. */
export function planHeader(
  area: Pick<MetadataArea, "offset" | "size" | "ignored" | "header">,
  committed: TextLocation | null,
  precommitted: TextLocation | null,
): AreaWrite {
  const value = {
    start: area.offset,
    size: area.size,
    committed: encodeSlot(committed, area.ignored),
    precommitted: encodeSlot(precommitted, false),
    ...(area.header ? { rest: area.header.rest } : {}),
  };
  const data = METADATA_AREA_HEADER.encode({ ...value, crc: 0 });
  METADATA_AREA_HEADER.encode({ ...value, crc: lvmCrc(data.subarray(4)) }, data);
  return { offset: area.offset, data };
}

function encodeSlot(location: TextLocation | null, ignored: boolean): Uint8Array {
  const { offset, size, crc } = location ?? { offset: 0, size: 0, crc: 0 };
  return TEXT_LOCATION.encode({ offset: BigInt(offset), size: BigInt(size), crc, flags: ignored ? IGNORED : 0 });
}
