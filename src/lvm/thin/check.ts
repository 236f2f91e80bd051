/**
 * What is wrong with a pool's metadata. Beside what thin_check finds (checksums, shape of the trees, counts of metadata blocks): counts
 * of data blocks, the mapped blocks that each device says it has, and the totals of both space maps.
 */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { count64 } from "./block.js";
import { BlockCache } from "./block-cache.js";
import type { BlockCounts } from "./block-counts.js";
import { ENTRIES_PER_BITMAP, INDEX_ENTRIES, INDEX_ENTRY, type IndexEntry, type SpaceMapRoot } from "./layout.js";
import { bits } from "./space-map.js";
import { NEEDS_CHECK, readSuperblock, spaceMapRoots } from "./superblock.js";
import { MetadataWalk } from "./walk.js";

export interface ThinProblem {
  /** `corrupt`: something may be read or overwritten wrongly. `leak`: space is lost, or a figure is wrong, nothing else. */
  readonly kind: "corrupt" | "leak";
  readonly text: string;
}

export interface ThinCheck {
  readonly problems: readonly ThinProblem[];
  /** The metadata itself says that it needs a check. */
  readonly needsCheck: boolean;
  readonly transactionId: number;
  readonly devices: number;
}

/** Problems beyond this many are only counted. */
const TOLD = 100;

/** Changes nothing. A superblock that cannot be used is a problem too, not an error. */
export async function checkThinMetadata(device: BlockDevice): Promise<ThinCheck> {
  const problems = new Problems();
  const result = { needsCheck: false, transactionId: 0, devices: 0 };
  try {
    const superblock = await readSuperblock(device);
    if (!superblock) throw new DiskError("CORRUPT", "the superblock is zero: the metadata is not formatted");
    const walk = new MetadataWalk(new BlockCache(device), superblock);
    await walk.devicesAndMappings();
    await checkSpaceMaps(walk, problems);
    for (const text of walk.problems) problems.add("corrupt", text);
    for (const [id, { details, mapped }] of walk.devices)
      if (details.mappedBlocks !== mapped)
        problems.add("leak", `device ${id} says that it has ${details.mappedBlocks} mapped blocks, it has ${mapped}`);
    result.needsCheck = (superblock.flags & NEEDS_CHECK) !== 0;
    result.transactionId = superblock.transactionId;
    result.devices = walk.devices.size;
  } catch (error) {
    if (!(error instanceof DiskError) || (error.code !== "CORRUPT" && error.code !== "UNSUPPORTED")) throw error;
    problems.add("corrupt", error.message);
  }
  return { problems: problems.list(), ...result };
}

class Problems {
  readonly #told: ThinProblem[] = [];
  readonly #more = { corrupt: 0, leak: 0 };

  add(kind: ThinProblem["kind"], text: string): void {
    if (this.#told.length < TOLD) this.#told.push({ kind, text });
    else this.#more[kind]++;
  }

  list(): ThinProblem[] {
    const more = (["corrupt", "leak"] as const).flatMap((kind) =>
      this.#more[kind] > 0 ? [{ kind, text: `${this.#more[kind]} more of them` }] : [],
    );
    return [...this.#told, ...more];
  }
}

async function checkSpaceMaps(walk: MetadataWalk, problems: Problems): Promise<void> {
  const { data, metadata } = spaceMapRoots(walk.superblock);
  // Both maps' own blocks are met first: the metadata's map counts them too.
  const dataMap = await readMap(walk, "data space map", data, () => dataBitmaps(walk, data));
  const ownMap = await readMap(walk, "metadata space map", metadata, () => metadataBitmaps(walk, metadata));
  await compare(walk, problems, "data block", data, dataMap, walk.data);
  await compare(walk, problems, "metadata block", metadata, ownMap, walk.metadata);
}

interface ReadMap {
  readonly bitmaps: ReadonlyMap<number, IndexEntry>;
  readonly large: ReadonlyMap<number, number>;
}

async function readMap(
  walk: MetadataWalk,
  what: string,
  root: SpaceMapRoot,
  readIndex: () => Promise<Map<number, IndexEntry>>,
): Promise<ReadMap> {
  const bitmaps = await readIndex();
  for (const [i, { bitmap }] of bitmaps) await walk.single(`bitmap ${i} of the ${what}`, bitmap, "bitmap");
  const large = new Map<number, number>();
  await walk.tree(`large counts of the ${what}`, root.refCountRoot, 4, (block, value) => {
    large.set(block, new DataView(value.buffer, value.byteOffset, 4).getUint32(0, true));
    return 0;
  });
  return { bitmaps, large };
}

async function dataBitmaps(walk: MetadataWalk, root: SpaceMapRoot): Promise<Map<number, IndexEntry>> {
  const found = new Map<number, IndexEntry>();
  await walk.tree("index of the data space map", root.bitmapRoot, INDEX_ENTRY.size, (i, value) => {
    found.set(i, INDEX_ENTRY.decode(value));
    return 0;
  });
  return found;
}

async function metadataBitmaps(walk: MetadataWalk, root: SpaceMapRoot): Promise<Map<number, IndexEntry>> {
  const found = new Map<number, IndexEntry>();
  await walk.single("index of the metadata space map", root.bitmapRoot, "index");
  const index = await walk.cache.get(root.bitmapRoot, "index").catch(() => null);
  const needed = Math.min(INDEX_ENTRIES, Math.ceil(root.blocks / ENTRIES_PER_BITMAP));
  for (let i = 0; index && i < needed; i++)
    if (count64(index.view, 16 + i * INDEX_ENTRY.size) !== 0)
      found.set(i, INDEX_ENTRY.decode(index.bytes, 16 + i * INDEX_ENTRY.size));
  return found;
}

async function compare(
  walk: MetadataWalk,
  problems: Problems,
  what: string,
  root: SpaceMapRoot,
  { bitmaps, large }: ReadMap,
  met: BlockCounts,
): Promise<void> {
  for (const [block] of met.entries())
    if (block >= root.blocks) problems.add("corrupt", `${what} ${block} is in use, there are ${root.blocks}`);
  let allocated = 0;
  for (let i = 0; i * ENTRIES_PER_BITMAP < root.blocks; i++) {
    const entry = bitmaps.get(i);
    const bitmap = entry && (await walk.cache.get(entry.bitmap, "bitmap").catch(() => null));
    if (!bitmap) {
      if (!entry) problems.add("corrupt", `the counts of ${what}s from ${i * ENTRIES_PER_BITMAP} on are missing`);
      continue; // one that cannot be read was told
    }
    const here = Math.min(ENTRIES_PER_BITMAP, root.blocks - i * ENTRIES_PER_BITMAP);
    let free = 0;
    for (let at = 0; at < here; at++) {
      const block = i * ENTRIES_PER_BITMAP + at;
      const stored = bits(bitmap, at) < 3 ? bits(bitmap, at) : (large.get(block) ?? Number.NaN);
      const expected = met.get(block);
      if (stored === 0) free++;
      if (stored !== expected)
        problems.add(
          stored > expected ? "leak" : "corrupt",
          `${what} ${block} is counted ${Number.isNaN(stored) ? "with a large count that is missing" : `${stored} times`}, it is in use ${expected} times`,
        );
    }
    allocated += here - free;
    if (entry.free !== free && entry.free !== free + ENTRIES_PER_BITMAP - here)
      problems.add("leak", `bitmap ${i} of ${what}s says that ${entry.free} are free, they are ${free}`);
    await walk.cache.trim();
  }
  if (allocated !== root.allocated)
    problems.add("leak", `${root.allocated} ${what}s are said to be in use, they are ${allocated}`);
}
