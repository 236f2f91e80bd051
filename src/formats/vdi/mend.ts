/**
 * Mends what a check has found. Each step leaves less to mend, wherever it is cut: copies of blocks are on the disk before an entry
 * names them, the count in the header comes after the entries, the file is cut short last.
 */
import type { HostFile } from "../../block/host-file.js";
import type { Findings } from "./check.js";
import { mapBytes } from "./header.js";
import { MAP_ABSENT, MAP_ENTRY_SIZE, MAP_ZEROS, VDI_HEADER, type VdiHeader } from "./layout.js";

/** Of the map, read at once. */
const PIECE = 1 << 20;

export async function mendVdi(file: HostFile, header: VdiHeader, findings: Findings, all: boolean): Promise<void> {
  if (all) {
    const entries = new Map<number, number>();
    for (const [block, { copyOf }] of findings.wrong)
      entries.set(block, copyOf === null ? MAP_ABSENT : await appendCopy(file, header, copyOf));
    await writeEntries(file, header, entries);
  }
  await file.write(0, VDI_HEADER.encode({ ...header, allocatedBlocks: findings.count }));
  await file.flush();
  // What else is wrong may lie anywhere: nothing is moved as long as it does.
  if (findings.leaked.length > 0 && findings.wrong.size === 0) await closeHoles(file, header, findings);
}

/** Moves the last blocks into those that nobody names, so that the file has only blocks that are in use. */
async function closeHoles(file: HostFile, header: VdiHeader, { leaked, count }: Findings): Promise<void> {
  const { blockSize, dataOffset } = header;
  const holes = leaked.filter((number) => number < count);
  const moved = new Map<number, number>();
  for (const { block, number } of await blocksFrom(file, header, count)) {
    const hole = holes.pop();
    if (hole === undefined) break;
    await copyBlock(file, header, number, hole);
    moved.set(block, hole);
  }
  await writeEntries(file, header, moved);
  const end = dataOffset + count * blockSize;
  if (file.resizable && file.size > end) await file.resize(end);
}

/** Blocks of the disk that lie in the file as number `first` or later. */
async function blocksFrom(file: HostFile, { blocks, mapOffset }: VdiHeader, first: number) {
  const found: { block: number; number: number }[] = [];
  for (let begin = 0; begin < blocks; begin += PIECE / MAP_ENTRY_SIZE) {
    const piece = Buffer.alloc(Math.min(PIECE, mapBytes(blocks - begin)));
    await file.read(mapOffset + mapBytes(begin), piece);
    for (let i = 0; i < piece.length / MAP_ENTRY_SIZE; i++) {
      const number = piece.readUInt32LE(i * MAP_ENTRY_SIZE);
      if (number >= first && number < MAP_ZEROS) found.push({ block: begin + i, number });
    }
  }
  return found;
}

async function writeEntries(
  file: HostFile,
  { mapOffset }: VdiHeader,
  entries: ReadonlyMap<number, number>,
): Promise<void> {
  await file.flush();
  for (const [block, number] of entries) {
    const entry = Buffer.alloc(MAP_ENTRY_SIZE);
    entry.writeUInt32LE(number);
    await file.write(mapOffset + block * MAP_ENTRY_SIZE, entry);
  }
  await file.flush();
}

/** Puts a copy of a block behind the last one; returns its number. */
async function appendCopy(file: HostFile, header: VdiHeader, number: number): Promise<number> {
  const copy = Math.ceil((file.size - header.dataOffset) / header.blockSize);
  await file.resize(header.dataOffset + (copy + 1) * header.blockSize);
  await copyBlock(file, header, number, copy);
  return copy;
}

async function copyBlock(
  file: HostFile,
  { blockSize, dataOffset }: VdiHeader,
  number: number,
  to: number,
): Promise<void> {
  const from = dataOffset + number * blockSize;
  const bytes = new Uint8Array(blockSize);
  await file.read(from, bytes.subarray(0, Math.min(blockSize, file.size - from)));
  await file.write(dataOffset + to * blockSize, bytes);
}
