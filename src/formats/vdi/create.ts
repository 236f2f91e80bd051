/** A new, empty VDI image: header, block map, and for a static one all of its blocks. */
import type { HostFile } from "../../block/host-file.js";
import { randomGuid, ZERO_GUID } from "../../bytes/guid.js";
import type { CreateOptions } from "../format.js";
import { dataOffsetFor, mapBytes } from "./header.js";
import { writeAbsent } from "./image.js";
import { DEFAULT_BLOCK_SIZE, MAP_ENTRY_SIZE, VDI_HEADER, VDI_TYPE, VERSION_1_1 } from "./layout.js";
import { parentFields } from "./open.js";
import { STATIC } from "./options.js";

const MAP_OFFSET = 1 << 20;
const HEADER_SIZE = 400;
/** Between two looks at the signal and two reports of progress. */
const PIECE = 64 << 20;

export async function createVdi(file: HostFile, size: number, options: CreateOptions): Promise<void> {
  const blocks = Math.ceil(size / DEFAULT_BLOCK_SIZE);
  const dataOffset = dataOffsetFor(MAP_OFFSET, blocks);
  const complete = options.values.get(STATIC) || options.preallocation !== "off";
  const type = options.backing
    ? VDI_TYPE.differencing
    : options.values.get(STATIC)
      ? VDI_TYPE.static
      : VDI_TYPE.dynamic;
  const parent = options.backing
    ? parentFields(`vdi ${file.label}`, options.backing)
    : { parentUuid: ZERO_GUID, parentModificationUuid: ZERO_GUID };
  await file.resize(dataOffset + (complete ? blocks * DEFAULT_BLOCK_SIZE : 0));
  if (complete) await writeAllPlaces(file, blocks);
  else await writeAbsent(file, MAP_OFFSET, blocks);
  await file.write(
    0,
    VDI_HEADER.encode({
      text: "<<< xvdkit VDI disk image >>>\n",
      version: VERSION_1_1,
      headerSize: HEADER_SIZE,
      type,
      flags: 0,
      comment: new Uint8Array(256),
      mapOffset: MAP_OFFSET,
      dataOffset,
      cylinders: 0, // the BIOS chooses
      heads: 0,
      sectors: 0,
      sectorSize: 512,
      unused: 0,
      diskSize: size,
      blockSize: DEFAULT_BLOCK_SIZE,
      blockExtra: 0,
      blocks,
      allocatedBlocks: complete ? blocks : 0,
      uuid: randomGuid(options.random),
      modificationUuid: randomGuid(options.random),
      ...parent,
    }),
  );
  if (options.preallocation === "falloc" || options.preallocation === "full")
    await reserve(file, dataOffset, blocks * DEFAULT_BLOCK_SIZE, options);
}

/** Block n of the disk is block n of the file. */
async function writeAllPlaces(file: HostFile, blocks: number): Promise<void> {
  const perPiece = 1 << 18;
  for (let first = 0; first < blocks; first += perPiece) {
    const count = Math.min(perPiece, blocks - first);
    const piece = Buffer.alloc(mapBytes(count));
    for (let i = 0; i < count; i++) piece.writeUInt32LE(first + i, i * MAP_ENTRY_SIZE);
    await file.write(MAP_OFFSET + mapBytes(first), piece);
  }
}

async function reserve(file: HostFile, begin: number, length: number, options: CreateOptions): Promise<void> {
  const zeros = options.preallocation === "full" ? new Uint8Array(1 << 20) : null;
  for (let done = 0; done < length; done += PIECE) {
    options.signal?.throwIfAborted();
    const part = Math.min(PIECE, length - done);
    await file.allocate(begin + done, part);
    if (zeros)
      for (let at = 0; at < part; at += zeros.length)
        await file.write(begin + done + at, zeros.subarray(0, Math.min(zeros.length, part - at)));
    options.onProgress?.(done + part, length);
  }
}
