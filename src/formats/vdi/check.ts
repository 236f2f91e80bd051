/**
 * Checks the block map of a VDI image: places outside the file, blocks that lie in one place, blocks of the file that nobody
 * names, and the count in the header. The map is read once; of each block of the file one bit is kept.
 */
import type { HostFile } from "../../block/host-file.js";
import { type CheckOptions, type CheckReport, MAX_PROBLEMS } from "../extensions.js";
import type { OpenContext } from "../format.js";
import { mapBytes, readHeader } from "./header.js";
import { MAP_ABSENT, MAP_ENTRY_SIZE, MAP_ZEROS, VDI_HEADER, type VdiHeader } from "./layout.js";
import { mendVdi } from "./mend.js";

/** Of the map, read at once. */
const PIECE = 1 << 20;

export async function checkVdi(file: HostFile, _context: OpenContext, options: CheckOptions): Promise<CheckReport> {
  const header = await readHeader(file);
  const findings = await inspect(file, header, options);
  const { wrong, leaked, count, end } = findings;
  const countIsWrong = count !== header.allocatedBlocks;
  const mendsAll = options.repair === "all";
  const mendsLeaks = options.repair !== "none";
  if (mendsLeaks && !options.dryRun) await mendVdi(file, header, findings, mendsAll);
  const leaks = leaked.length + (countIsWrong ? 1 : 0);
  return {
    checkErrors: 0,
    corruptions: mendsAll ? 0 : wrong.size,
    corruptionsFixed: mendsAll ? wrong.size : 0,
    leaks: mendsLeaks ? 0 : leaks,
    leaksFixed: mendsLeaks ? leaks : 0,
    imageEndOffset: end,
    totalClusters: header.blocks,
    allocatedClusters: count,
    fragmentedClusters: findings.fragmented,
    compressedClusters: 0,
    problems: findings.problems.slice(0, MAX_PROBLEMS),
  };
}

export interface Findings {
  /** Entries of the map that cannot be used, by block: to be absent, or to get a copy of the place that another one has. */
  readonly wrong: ReadonlyMap<number, { readonly copyOf: number | null }>;
  /** Blocks of the file that no entry names. */
  readonly leaked: readonly number[];
  /** Entries that name a place. */
  readonly count: number;
  readonly fragmented: number;
  /** Byte behind the last block that is in use. */
  readonly end: number;
  readonly problems: readonly string[];
}

async function inspect(file: HostFile, header: VdiHeader, options: CheckOptions): Promise<Findings> {
  const { blocks, blockSize, diskSize, dataOffset, mapOffset } = header;
  const inFile = Math.ceil(Math.max(0, file.size - dataOffset) / blockSize);
  const used = new Uint8Array(Math.ceil(inFile / 8));
  const wrong = new Map<number, { copyOf: number | null }>();
  const problems: string[] = [];
  let [count, fragmented, last, highest] = [0, 0, -1, -1];
  const tell = (block: number, text: string) => {
    if (problems.length < MAX_PROBLEMS)
      problems.push(`block ${block} ${text} (byte ${mapOffset + block * MAP_ENTRY_SIZE})`);
  };
  for (let first = 0; first < blocks; first += PIECE / MAP_ENTRY_SIZE) {
    options.signal?.throwIfAborted();
    const piece = Buffer.alloc(Math.min(PIECE, mapBytes(blocks - first)));
    await file.read(mapOffset + mapBytes(first), piece);
    for (let i = 0; i < piece.length / MAP_ENTRY_SIZE; i++) {
      const number = piece.readUInt32LE(i * MAP_ENTRY_SIZE);
      if (number === MAP_ABSENT || number === MAP_ZEROS) continue;
      const block = first + i;
      const needed = Math.max(1, Math.min(blockSize, diskSize - block * blockSize));
      if (dataOffset + number * blockSize + needed > file.size) {
        tell(block, `lies behind the end of the file, as block ${number} of it`);
        wrong.set(block, { copyOf: null });
        continue;
      }
      count++;
      if (used[number >> 3]! & (1 << (number & 7))) {
        tell(block, `lies where another one does, as block ${number} of the file`);
        wrong.set(block, { copyOf: number });
        continue;
      }
      used[number >> 3]! |= 1 << (number & 7);
      if (last >= 0 && number !== last + 1) fragmented++;
      [last, highest] = [number, Math.max(highest, number)];
    }
    options.onProgress?.(first + piece.length / MAP_ENTRY_SIZE, blocks);
  }
  const leaked: number[] = [];
  for (let number = 0; number < inFile; number++) if (!(used[number >> 3]! & (1 << (number & 7)))) leaked.push(number);
  if (leaked.length > 0) problems.push(`${leaked.length} blocks of the file belong to no block of the disk`);
  if (count !== header.allocatedBlocks)
    problems.push(
      `the header counts ${header.allocatedBlocks} blocks in the file, the map has ${count} (byte ${VDI_HEADER.fields.allocatedBlocks.offset})`,
    );
  return { wrong, leaked, count, fragmented, end: dataOffset + (highest + 1) * blockSize, problems };
}
