/**
 * A pool's metadata: its devices, their mappings, the counts of its data blocks. Linux drivers/md/dm-thin-metadata.c, version 2.
 *
 * One transaction is open at any time, `commit` ends it and begins the next:
 *
 *   new blocks stored -> data and metadata flushed -> superblock written -> flushed
 *
 * A cut before the superblock's write leaves the last commit, after it this one. Calls come one at a time (the pool's queue); one that
 * fails in the middle leaves the transaction unusable, the committed state untouched.
 */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { count64, setCount64 } from "./block.js";
import { BlockCache } from "./block-cache.js";
import {
  BLOCK,
  DEVICE_DETAILS,
  type DeviceDetails,
  MAX_METADATA_BLOCKS,
  THIN_SUPERBLOCK,
  type ThinSuperblock,
} from "./layout.js";
import { INDEX, IndexTree, MetadataBlocks } from "./metadata-blocks.js";
import { Node } from "./node.js";
import { COUNTS, SpaceMap } from "./space-map.js";
import { encodeSpaceMapRoot, NEEDS_CHECK, readSuperblock, spaceMapRoots, writeSuperblock } from "./superblock.js";
import { entriesFrom, type FoundLeaf, leafAt, lookup } from "./tree-read.js";
import { createTree, insert, removeRange, removeTree, type TreeType } from "./tree-update.js";

/** A thin device as the transaction has it. */
export interface ThinDeviceState {
  readonly id: number;
  /** Of its mappings. */
  root: number;
  details: DeviceDetails;
  /** Whether this transaction has changed it: its path in the tree of trees is this transaction's then. */
  changed: boolean;
}

export interface Mapping {
  /** Block of the device. */
  readonly block: number;
  readonly dataBlock: number;
  /** When it was made; older than the device's last snapshot means shared. */
  readonly time: number;
}

/** LVM2's and the kernel's limit. */
export const MAX_DEVICE_ID = 2 ** 24 - 1;
const DETAILS: TreeType = { valueSize: DEVICE_DETAILS.size };
const MAPPINGS: TreeType = { valueSize: 8 };

const EMPTY = {
  checksum: 0,
  flags: 0,
  version: 2,
  time: 0,
  transactionId: 0,
  heldRoot: 0,
  metadataBlocks: 0,
  compat: 0,
  compatReadOnly: 0,
  incompat: 0,
};

export interface PoolGeometry {
  /** Sectors, a multiple of 128. */
  readonly dataBlockSize: number;
  readonly dataBlocks: number;
}

/** Blocks of a metadata device that can be used. */
export function metadataBlocksOf({ size }: BlockDevice): number {
  return Math.min(Math.floor(size / BLOCK), MAX_METADATA_BLOCKS);
}

export class ThinMetadata {
  readonly blocks: MetadataBlocks;
  readonly data: SpaceMap;
  readonly #mappings: TreeType;
  readonly #trees: TreeType;
  #superblock: ThinSuperblock;
  #devices = new Map<number, ThinDeviceState>();
  #dirty = false;

  private constructor(blocks: MetadataBlocks, superblock: ThinSuperblock) {
    const { data } = spaceMapRoots(superblock);
    this.#superblock = superblock;
    this.blocks = blocks;
    this.data = new SpaceMap("data block", blocks, new IndexTree(blocks, data.bitmapRoot), data);
    this.#mappings = {
      valueSize: 8,
      increment: async (value) => void (await this.data.increment(dataBlockOf(value))),
      release: async (value) => void (await this.data.decrement(dataBlockOf(value))),
    };
    this.#trees = {
      valueSize: 8,
      increment: async (value) => void (await this.blocks.space.increment(count64(viewOf(value), 0))),
      release: (value) => removeTree(this.blocks, this.#mappings, count64(viewOf(value), 0)),
    };
  }

  /** Throws `CORRUPT` for what is no metadata; `cachedBlocks` limits the memory, 4 KiB each. */
  static async open(device: BlockDevice, cachedBlocks?: number): Promise<ThinMetadata> {
    const superblock = await readSuperblock(device);
    if (!superblock)
      throw new DiskError("CORRUPT", `Cannot read ${device.label}: its superblock is zero, the pool is not formatted`);
    const { metadata } = spaceMapRoots(superblock);
    return new ThinMetadata(new MetadataBlocks(new BlockCache(device, cachedBlocks), metadata), superblock);
  }

  /** Metadata of a pool without devices. `dataBlockSize` in sectors. A cut leaves what the kernel takes for not formatted. */
  static async format(device: BlockDevice, { dataBlockSize, dataBlocks }: PoolGeometry): Promise<ThinMetadata> {
    await device.zero(0, BLOCK);
    await device.flush();
    const root = { blocks: 0, allocated: 0, bitmapRoot: 1, refCountRoot: 2 };
    const blocks = new MetadataBlocks(new BlockCache(device), root);
    blocks.createAt(root.bitmapRoot, "index");
    Node.format(blocks.createAt(root.refCountRoot, "node"), true, COUNTS.valueSize, device.label);
    await blocks.extend(metadataBlocksOf(device), 3);
    for (const known of [0, root.bitmapRoot, root.refCountRoot]) await blocks.space.increment(known);
    const create = async ({ valueSize }: TreeType) => (await blocks.createNode(true, valueSize)).number;
    const data = { blocks: 0, allocated: 0, bitmapRoot: await create(INDEX), refCountRoot: await create(COUNTS) };
    const superblock: ThinSuperblock = THIN_SUPERBLOCK.decode(
      THIN_SUPERBLOCK.encode({
        ...EMPTY,
        dataBlockSize,
        mappingRoot: await create(MAPPINGS),
        detailsRoot: await create(DETAILS),
        dataSpaceMap: encodeSpaceMapRoot(data),
        metadataSpaceMap: encodeSpaceMapRoot(root),
      }),
    );
    const metadata = new ThinMetadata(blocks, superblock);
    await metadata.extendData(dataBlocks);
    metadata.#dirty = true;
    await metadata.commit(async () => {});
    return metadata;
  }

  get label(): string {
    return this.blocks.label;
  }

  get transactionId(): number {
    return this.#superblock.transactionId;
  }

  /** Sectors. */
  get dataBlockSize(): number {
    return this.#superblock.dataBlockSize;
  }

  get needsCheck(): boolean {
    return (this.#superblock.flags & NEEDS_CHECK) !== 0;
  }

  get isDirty(): boolean {
    return this.#dirty;
  }

  setTransactionId(transactionId: number): void {
    this.#change({ transactionId });
  }

  setNeedsCheck(needed: boolean): void {
    const flags = needed ? this.#superblock.flags | NEEDS_CHECK : this.#superblock.flags & ~NEEDS_CHECK;
    this.#change({ flags });
  }

  async hasDevice(id: number): Promise<boolean> {
    return this.#devices.has(id) || (await lookup(this.blocks, this.#superblock.detailsRoot, id)) !== null;
  }

  async device(id: number): Promise<ThinDeviceState> {
    const known = this.#devices.get(id);
    if (known) return known;
    const { detailsRoot, mappingRoot } = this.#superblock;
    const details = await lookup(this.blocks, detailsRoot, id);
    const root = details && (await lookup(this.blocks, mappingRoot, id));
    if (!details || !root)
      throw new DiskError("NOT_FOUND", `Cannot open thin device ${id}: ${this.label} has no such device`);
    const state = { id, root: count64(viewOf(root), 0), details: DEVICE_DETAILS.decode(details), changed: false };
    this.#devices.set(id, state);
    return state;
  }

  async *devices(): AsyncGenerator<{ id: number; details: DeviceDetails }> {
    for await (const { key, value } of entriesFrom(this.blocks, this.#superblock.detailsRoot))
      yield { id: key, details: this.#devices.get(key)?.details ?? DEVICE_DETAILS.decode(value) };
  }

  async createDevice(id: number): Promise<void> {
    await this.#refuseTaken(id);
    const root = await createTree(this.blocks, this.#mappings);
    const { time, transactionId } = this.#superblock;
    await this.#add(id, root, { mappedBlocks: 0, transactionId, creationTime: time, snapshotTime: time });
  }

  /** Both share all blocks from now on. */
  async createSnapshot(id: number, originId: number): Promise<void> {
    await this.#refuseTaken(id);
    const origin = await this.device(originId);
    await this.#touch(origin);
    const time = this.#superblock.time + 1;
    this.#change({ time });
    await this.blocks.space.increment(origin.root);
    origin.details = { ...origin.details, snapshotTime: time };
    const { transactionId } = this.#superblock;
    const { mappedBlocks } = origin.details;
    await this.#add(id, origin.root, { mappedBlocks, transactionId, creationTime: time, snapshotTime: time });
  }

  /** Its mappings are released with it; `removeMappings` may have released most before. */
  async deleteDevice(id: number): Promise<void> {
    await this.#touch(await this.device(id));
    await this.#storeDevices();
    const { mappingRoot, detailsRoot } = this.#superblock;
    this.#change({
      mappingRoot: await removeRange(this.blocks, this.#trees, mappingRoot, id, id + 1),
      detailsRoot: await removeRange(this.blocks, DETAILS, detailsRoot, id, id + 1),
    });
    this.#devices.delete(id);
  }

  /** At most `limit` mappings from a block on, ascending. */
  async mappings({ root }: ThinDeviceState, from: number, limit: number): Promise<Mapping[]> {
    const found: Mapping[] = [];
    for await (const { key, value } of entriesFrom(this.blocks, root, from)) {
      if (found.length === limit) break;
      found.push({ block: key, ...decodeMapping(value) });
    }
    return found;
  }

  /** Mappings of one leaf from a block on, and where the next leaf begins. */
  async leafMappings({ root }: ThinDeviceState, from: number): Promise<{ found: Mapping[]; next: number | null }> {
    const { leaf, next } = await leafAt(this.blocks, root, from);
    const found: Mapping[] = [];
    for (let i = leaf.lowerBound(from); i < leaf.count; i++)
      found.push({ block: leaf.key(i), ...decodeMapping(leaf.value(i)) });
    return { found, next };
  }

  /** Whether writing through a mapping would be seen by somebody else. */
  isShared({ details }: ThinDeviceState, { time }: Pick<Mapping, "time">): boolean {
    return time < details.snapshotTime;
  }

  /** Maps a block to a data block that nobody refers to; the one before is released. Returns the mapping. */
  async map(state: ThinDeviceState, block: number, dataBlock: number): Promise<Mapping> {
    await this.#touch(state);
    await this.data.increment(dataBlock);
    const before = await lookup(this.blocks, state.root, block);
    const old = before && dataBlockOf(before);
    const mapping = { block, dataBlock, time: this.#superblock.time };
    state.root = await insert(this.blocks, this.#mappings, state.root, block, encodeMapping(mapping));
    if (old === null) state.details = { ...state.details, mappedBlocks: state.details.mappedBlocks + 1 };
    else await this.data.decrement(old);
    return mapping;
  }

  /** Releases what is mapped from `begin` until before `end`; `onFreed` gets data blocks that nobody refers to any more. */
  async unmap(
    state: ThinDeviceState,
    begin: number,
    end: number,
    onFreed: (dataBlock: number) => void = () => {},
  ): Promise<void> {
    const removed = await this.#countMappings(state, begin, end);
    if (removed === 0) return;
    await this.#touch(state);
    const type: TreeType = {
      ...this.#mappings,
      release: async (value) => {
        const dataBlock = dataBlockOf(value);
        if ((await this.data.decrement(dataBlock)) === 0) onFreed(dataBlock);
      },
    };
    state.root = await removeRange(this.blocks, type, state.root, begin, end);
    state.details = { ...state.details, mappedBlocks: state.details.mappedBlocks - removed };
  }

  async #countMappings(state: ThinDeviceState, begin: number, end: number): Promise<number> {
    let count = 0;
    for (let from: number | null = begin; from !== null && from < end; ) {
      const { leaf, next }: FoundLeaf = await leafAt(this.blocks, state.root, from);
      count += leaf.lowerBound(end) - leaf.lowerBound(from);
      from = next;
    }
    return count;
  }

  async #touch(state: ThinDeviceState): Promise<void> {
    this.#dirty = true;
    if (state.changed) return;
    // The path is copied before anything beneath it is: a metadata snapshot may share it.
    const { mappingRoot } = this.#superblock;
    this.#change({ mappingRoot: await insert(this.blocks, this.#trees, mappingRoot, state.id, reference(state.root)) });
    state.changed = true;
  }

  async #add(id: number, root: number, details: DeviceDetails): Promise<void> {
    const { mappingRoot, detailsRoot } = this.#superblock;
    this.#change({
      mappingRoot: await insert(this.blocks, this.#trees, mappingRoot, id, reference(root)),
      detailsRoot: await insert(this.blocks, DETAILS, detailsRoot, id, DEVICE_DETAILS.encode(details)),
    });
    this.#devices.set(id, { id, root, details, changed: true });
  }

  async #refuseTaken(id: number): Promise<void> {
    if (!(id >= 0 && id <= MAX_DEVICE_ID)) throw new RangeError(`thin device id ${id}, allowed 0..${MAX_DEVICE_ID}`);
    if (await this.hasDevice(id))
      throw new DiskError("DENIED", `Cannot create thin device ${id}: ${this.label} has it already`, {
        details: { exists: true },
      });
  }

  #change(fields: Partial<ThinSuperblock>): void {
    this.#superblock = { ...this.#superblock, ...fields };
    this.#dirty = true;
  }

  async #storeDevices(): Promise<void> {
    for (const state of this.#devices.values()) {
      if (!state.changed) continue;
      const { mappingRoot, detailsRoot } = this.#superblock;
      const { id, root, details } = state;
      this.#change({
        mappingRoot: await insert(this.blocks, this.#trees, mappingRoot, id, reference(root)),
        detailsRoot: await insert(this.blocks, DETAILS, detailsRoot, id, DEVICE_DETAILS.encode(details)),
      });
    }
  }

  /** `flushData` makes durable what the new mappings point to. Returns when the transaction is. */
  async commit(flushData: () => Promise<void>): Promise<void> {
    if (!this.#dirty) return;
    await this.#storeDevices();
    const data = await this.data.apply();
    const metadata = await this.blocks.space.apply();
    this.#change({
      dataSpaceMap: encodeSpaceMapRoot(data),
      metadataSpaceMap: encodeSpaceMapRoot(metadata),
      metadataBlocks: metadata.blocks,
    });
    const { cache } = this.blocks;
    await cache.store();
    await Promise.all([flushData(), cache.device.flush()]);
    await writeSuperblock(cache.device, this.#superblock);
    this.blocks.settle();
    for (const state of this.#devices.values()) state.changed = false;
    this.#dirty = false;
  }

  /** More data blocks, where the data device has grown. */
  async extendData(blocks: number): Promise<void> {
    if (blocks <= this.data.size) return;
    this.#dirty = true;
    await this.data.extend(blocks, () => this.blocks.create("bitmap"));
  }

  /** All of a metadata device that has grown. */
  async extendMetadata(): Promise<void> {
    const size = metadataBlocksOf(this.blocks.cache.device);
    if (size <= this.blocks.space.size) return;
    this.#dirty = true;
    await this.blocks.extend(size);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function reference(number: number): Uint8Array {
  const value = new Uint8Array(8);
  setCount64(viewOf(value), 0, number);
  return value;
}

/** A value of a mapping: 40 bits of data block above 24 bits of time. */
export function decodeMapping(value: Uint8Array): Omit<Mapping, "block"> {
  return { dataBlock: dataBlockOf(value), time: value[0]! | (value[1]! << 8) | (value[2]! << 16) };
}

function dataBlockOf(value: Uint8Array): number {
  const view = viewOf(value);
  return view.getUint32(4, true) * 256 + value[3]!;
}

export function encodeMapping({ dataBlock, time }: Omit<Mapping, "block">): Uint8Array {
  const value = new Uint8Array(8);
  setCount64(viewOf(value), 0, 0);
  const view = viewOf(value);
  view.setUint32(0, ((dataBlock % 256) * 0x100_0000 + (time % 0x100_0000)) >>> 0, true);
  view.setUint32(4, Math.floor(dataBlock / 256), true);
  return value;
}
