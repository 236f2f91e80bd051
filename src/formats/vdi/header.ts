/** Reads and judges the header of a VDI image. */
import type { HostFile } from "../../block/host-file.js";
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import { MAP_ENTRY_SIZE, MAX_BLOCKS, VDI_HEADER, VDI_TYPE, type VdiHeader } from "./layout.js";

/** Bytes up to and with `headerSize`; the header goes on for that many from there. */
const PRE_HEADER = 72;
const MAX_BLOCK_SIZE = 256 << 20;

/** Throws `CORRUPT` or `UNSUPPORTED`. What it lets through is a map that lies within the file and covers the disk. */
export async function readHeader(file: HostFile): Promise<VdiHeader> {
  const sector = new Uint8Array(Math.min(VDI_HEADER.size, file.size));
  await file.read(0, sector);
  const header = VDI_HEADER.decode(sector);
  const refuse = (code: "CORRUPT" | "UNSUPPORTED", field: keyof VdiHeader, allowed: string): never => {
    const { offset } = VDI_HEADER.fields[field];
    const message = `Cannot open vdi ${file.label}: ${field} is ${header[field]}, allowed ${allowed} (byte ${offset})`;
    throw new DiskError(code, message, { details: { field, byte: offset } });
  };
  if (header.version >>> 16 !== 1) refuse("UNSUPPORTED", "version", "1.x (0x0001xxxx)");
  if (!TYPES.includes(header.type)) refuse("UNSUPPORTED", "type", "1 (dynamic), 2 (static) and 4 (differencing)");
  if (header.sectorSize !== 512) refuse("UNSUPPORTED", "sectorSize", "512");
  if (header.blockExtra !== 0) refuse("UNSUPPORTED", "blockExtra", "0");
  const { blockSize, blocks, diskSize, mapOffset, dataOffset } = header;
  if (blockSize < 512 || blockSize > MAX_BLOCK_SIZE || !Number.isInteger(Math.log2(blockSize)))
    refuse("UNSUPPORTED", "blockSize", `powers of two from 512 to ${MAX_BLOCK_SIZE}`);
  if (header.headerSize < VDI_HEADER.size - 56 - PRE_HEADER) refuse("CORRUPT", "headerSize", "384 and more");
  if (diskSize % 512 !== 0) refuse("CORRUPT", "diskSize", "multiples of 512");
  if (blocks > MAX_BLOCKS || blocks * blockSize < diskSize)
    refuse("CORRUPT", "blocks", `${Math.ceil(diskSize / blockSize)}..${MAX_BLOCKS} for a disk of ${diskSize} bytes`);
  if (mapOffset < PRE_HEADER + header.headerSize || mapOffset % 4 !== 0)
    refuse("CORRUPT", "mapOffset", `multiples of 4 from ${PRE_HEADER + header.headerSize} on`);
  if (mapOffset + mapBytes(blocks) > file.size)
    refuse("CORRUPT", "mapOffset", `a map of ${mapBytes(blocks)} bytes within the file's ${file.size}`);
  if (dataOffset < mapOffset + mapBytes(blocks) || dataOffset % 512 !== 0)
    refuse("CORRUPT", "dataOffset", `multiples of 512 from ${mapOffset + mapBytes(blocks)} on`);
  return header;
}

const TYPES: readonly number[] = [VDI_TYPE.dynamic, VDI_TYPE.static, VDI_TYPE.differencing];

export function mapBytes(blocks: number): number {
  return blocks * MAP_ENTRY_SIZE;
}

/** Where data begins behind a map at `mapOffset`: VirtualBox keeps both on megabytes, so that blocks are aligned on the host. */
export function dataOffsetFor(mapOffset: number, blocks: number): number {
  return alignUp(mapOffset + mapBytes(blocks), 1 << 20);
}
