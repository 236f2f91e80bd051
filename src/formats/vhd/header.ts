/**
 * Reads and judges the footer and the dynamic header of a VHD. The footer lies in the last sector, dynamic disks have a copy
 * in the first: either is enough, the last one counts. Some old programs wrote footers of 511 bytes.
 */
import type { HostFile } from "../../block/host-file.js";
import { DiskError } from "../../errors.js";
import { visibleSize } from "./geometry.js";
import {
  bitmapBytes,
  checksumOf,
  MAX_SIZE,
  SECTOR,
  TABLE_ENTRY_SIZE,
  VHD_FOOTER,
  VHD_HEADER,
  type VhdFooter,
  type VhdHeader,
} from "./layout.js";

const MAX_BLOCK_SIZE = 256 << 20;

export interface Footers {
  readonly footer: VhdFooter;
  /** Bytes in front of the footer at the end; null when there is none that counts. */
  readonly dataEnd: number | null;
  /** The copy at the begin is there and says the same. */
  readonly copyAgrees: boolean;
}

export async function readFooters(file: HostFile): Promise<Footers> {
  const [first, last] = [await sector(file, 0), await lastSector(file)];
  const atEnd = attempt(() => decodeFooter(last.bytes, file));
  const atBegin = attempt(() => decodeFooter(first, file));
  if (atEnd.value) {
    const copyAgrees = atBegin.value !== undefined && Buffer.compare(first, last.bytes) === 0;
    return { footer: atEnd.value, dataEnd: last.offset, copyAgrees };
  }
  if (atBegin.value && atBegin.value.type !== "fixed")
    return { footer: atBegin.value, dataEnd: null, copyAgrees: true };
  throw atEnd.error;
}

async function sector(file: HostFile, offset: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(SECTOR);
  const length = Math.min(SECTOR, file.size - offset);
  if (length > 0) await file.read(offset, bytes.subarray(0, length));
  return bytes;
}

async function lastSector(file: HostFile): Promise<{ offset: number; bytes: Uint8Array }> {
  const length = file.size % SECTOR === SECTOR - 1 ? SECTOR - 1 : SECTOR;
  const offset = Math.max(0, file.size - length);
  return { offset, bytes: await sector(file, offset) };
}

function attempt<T>(read: () => T): { value: T; error?: never } | { value?: never; error: DiskError } {
  try {
    return { value: read() };
  } catch (error) {
    if (error instanceof DiskError) return { error };
    throw error;
  }
}

function decodeFooter(bytes: Uint8Array, file: HostFile): VhdFooter {
  const footer = VHD_FOOTER.decode(bytes);
  refuseChecksum(file, "footer", bytes, VHD_FOOTER.fields.checksum.offset, footer.checksum);
  if (footer.version >>> 16 !== 1)
    throw refused("UNSUPPORTED", file, `footer: version is ${footer.version}, allowed 1.x (byte 12)`);
  if (footer.type === "unknown")
    throw refused("UNSUPPORTED", file, "footer: type is unknown, allowed 2, 3 and 4 (byte 60)");
  const size = visibleSize(footer);
  if (size % SECTOR !== 0)
    throw refused("CORRUPT", file, `footer: the size is ${size}, allowed multiples of ${SECTOR} (byte 48)`);
  if (footer.type === "fixed" && size > file.size)
    throw refused("CORRUPT", file, `footer: the size is ${size}, the file has ${file.size} bytes (byte 48)`);
  return footer;
}

/** Of a dynamic or differencing disk. What it lets through is a table that lies within the file and covers the disk. */
export async function readHeader(file: HostFile, footer: VhdFooter): Promise<VhdHeader> {
  const { headerOffset } = footer;
  if (headerOffset % 512n !== 0n || headerOffset + BigInt(VHD_HEADER.size) > BigInt(file.size))
    throw refused(
      "CORRUPT",
      file,
      `footer: headerOffset is ${headerOffset}, allowed multiples of 512 within the file's ${file.size} bytes (byte 16)`,
    );
  const bytes = new Uint8Array(VHD_HEADER.size);
  await file.read(Number(headerOffset), bytes);
  const header = VHD_HEADER.decode(bytes);
  refuseChecksum(file, "dynamic header", bytes, VHD_HEADER.fields.checksum.offset, header.checksum);
  const { blockSize, blocks, tableOffset } = header;
  const bad = (field: keyof VhdHeader, allowed: string): DiskError =>
    refused(
      "CORRUPT",
      file,
      `dynamic header: ${field} is ${header[field]}, allowed ${allowed} (byte ${VHD_HEADER.fields[field].offset})`,
    );
  if (header.version >>> 16 !== 1) throw bad("version", "1.x");
  if (blockSize < SECTOR || blockSize > MAX_BLOCK_SIZE || !Number.isInteger(Math.log2(blockSize)))
    throw bad("blockSize", `powers of two from ${SECTOR} to ${MAX_BLOCK_SIZE}`);
  const size = visibleSize(footer);
  if (blocks * blockSize < size)
    throw bad("blocks", `${Math.ceil(size / blockSize)} and more for a disk of ${size} bytes`);
  if (tableOffset % SECTOR !== 0 || tableOffset + tableBytes(Math.ceil(size / blockSize)) > file.size)
    throw bad("tableOffset", `multiples of ${SECTOR} with the table within the file's ${file.size} bytes`);
  if (size > MAX_SIZE)
    throw refused("UNSUPPORTED", file, `the disk has ${size} bytes, allowed up to 2040 GiB (${MAX_SIZE})`);
  return header;
}

/** Bytes that a table takes in the file: whole sectors. */
export function tableBytes(blocks: number): number {
  return Math.ceil((blocks * TABLE_ENTRY_SIZE) / SECTOR) * SECTOR;
}

/** Bytes of a block in the file: its bitmap and its data. */
export function storedBlock(blockSize: number): number {
  return bitmapBytes(blockSize) + blockSize;
}

function refuseChecksum(file: HostFile, what: string, bytes: Uint8Array, offset: number, found: number): void {
  const plain = bytes.slice();
  plain.fill(0, offset, offset + 4);
  const expected = checksumOf(plain);
  if (found !== expected)
    throw refused(
      "CORRUPT",
      file,
      `${what}: the checksum is 0x${found.toString(16)}, allowed 0x${expected.toString(16)} (byte ${offset})`,
    );
}

function refused(code: "CORRUPT" | "UNSUPPORTED", file: HostFile, found: string): DiskError {
  return new DiskError(code, `Cannot open vhd ${file.label}: ${found}`);
}
