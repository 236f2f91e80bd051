/**
 * An open VDI image. Its block map is changed in memory and written by `flush`, in this order, with a barrier (flush) where the
 * text says "then":
 *
 *   1 data of new blocks, at the end of the file     A cut leaves blocks that no entry names: leaks.
 *   then
 *   2 entries of the map                             A cut leaves some of the new entries; the data of each is there.
 *   3 allocatedBlocks in the header                  A cut before it leaves a count that is too low, which nobody relies on.
 */
import type { BlockDevice } from "../../block/device.js";
import type { HostFile } from "../../block/host-file.js";
import type { Allocation, Location, Mapping } from "../../block/mapped.js";
import { Serial } from "../../block/serial.js";
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import { ABSENT, BlockTable, type EntryCodec, ZEROS } from "../block-table.js";
import { TableCache } from "../table-cache.js";
import { mapBytes } from "./header.js";
import { MAP_ABSENT, MAP_ENTRY_SIZE, MAP_ZEROS, VDI_HEADER, type VdiHeader } from "./layout.js";

/** Of the map in memory, whatever the size of the disk: the entries of 4 TiB in blocks of 1 MiB. */
const MAP_CACHE_BYTES = 16 << 20;
const SLICE_SIZE = 4096;
/** New blocks that one long write gets at once. */
const BLOCKS_AT_ONCE = 16;

export class VdiImage implements Mapping {
  readonly label: string;
  readonly file: HostFile;
  readonly writable: boolean;
  readonly blockSize = 1;
  header: VdiHeader;
  map: BlockTable;
  /** What absent blocks show; null: zeros. */
  backing: BlockDevice | null = null;
  #cache: TableCache;
  #headerChanged = false;
  /** Number of the next new block in the file. */
  #next: number;
  readonly #metadata = new Serial();

  constructor(label: string, file: HostFile, header: VdiHeader) {
    this.label = label;
    this.file = file;
    this.writable = file.writable;
    this.header = header;
    [this.#cache, this.map] = this.#openMap();
    // What lies behind the counted blocks may be data whose count was not written.
    const inFile = file.resizable ? Math.ceil((file.size - header.dataOffset) / header.blockSize) : 0;
    this.#next = Math.max(header.allocatedBlocks, inFile);
  }

  get size(): number {
    return this.header.diskSize;
  }

  locate(offset: number, length: number): Location | Promise<Location> {
    const block = Math.floor(offset / this.header.blockSize);
    const place = this.map.get(block);
    return place instanceof Promise
      ? place.then((found) => this.#locationAt(block, found, offset, length))
      : this.#locationAt(block, place, offset, length);
  }

  #locationAt(block: number, place: number, offset: number, length: number): Location | Promise<Location> {
    const { blockSize } = this.header;
    const within = offset - block * blockSize;
    if (place >= 0)
      return { kind: "data", device: this.file, offset: place + within, length: blockSize - within, shared: false };
    const kind = place === ZEROS ? ZEROS : ABSENT;
    const run = this.map.runOf(block, kind, Math.ceil((within + length) / blockSize));
    const located = (blocks: number) => this.#notHere(kind, offset, blocks * blockSize - within);
    return run instanceof Promise ? run.then(located) : located(run);
  }

  #notHere(kind: number, offset: number, length: number): Location {
    const { backing } = this;
    if (kind === ZEROS) return { kind: "zero", length, present: true };
    if (!backing || offset >= backing.size) return { kind: "zero", length };
    return { kind: "data", device: backing, offset, length: Math.min(length, backing.size - offset), shared: true };
  }

  get allocator() {
    return {
      unit: this.header.blockSize,
      allocate: (offset: number, _start: number, length: number) =>
        this.#metadata.run(() => this.#allocate(offset, length)),
      zero: (offset: number, length: number) => this.#metadata.run(() => this.#markZeros(offset, length)),
    };
  }

  async #allocate(offset: number, length: number): Promise<Allocation> {
    const { blockSize, dataOffset, diskSize } = this.header;
    if (this.#cache.crowded) await this.#writeTables();
    const first = Math.floor(offset / blockSize);
    const most = length < blockSize ? 1 : Math.min(BLOCKS_AT_ONCE, Math.floor(length / blockSize));
    const count = Math.min(most, Math.ceil(diskSize / blockSize) - first);
    const place = dataOffset + this.#next * blockSize;
    const end = place + count * blockSize;
    if (this.file.resizable) await this.file.resize(Math.max(this.file.size, end));
    else if (end > this.file.size)
      throw new DiskError(
        "NO_SPACE",
        `Cannot write ${this.label}: a new block would end at byte ${end}, ${this.file.label} has ${this.file.size}`,
      );
    this.#next += count;
    return {
      device: this.file,
      offset: place,
      start: first * blockSize,
      length: Math.min(count * blockSize, diskSize - first * blockSize),
      zeroed: this.file.resizable,
      commit: () => this.#metadata.run(() => this.#link(first, count, place)),
    };
  }

  async #link(first: number, count: number, place: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.map.set(first + i, place + i * this.header.blockSize);
    this.#change({ allocatedBlocks: this.header.allocatedBlocks + count });
  }

  /** Whole blocks over a backing image hide it by their entry. Those that lie in the file keep their place. */
  async #markZeros(offset: number, length: number): Promise<number> {
    const { blockSize } = this.header;
    const block = offset / blockSize;
    if (!this.backing || (await this.map.get(block)) !== ABSENT) return 0;
    if (this.#cache.crowded) await this.#writeTables();
    await this.map.set(block, ZEROS);
    return Math.min(length, blockSize);
  }

  flush(): Promise<void> {
    return this.writable ? this.#metadata.run(() => this.#writeTables()) : Promise.resolve();
  }

  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.backing?.close();
      await this.file.close();
    }
  }

  async #writeTables(): Promise<void> {
    await this.file.flush();
    if (this.#cache.dirtyBytes === 0 && !this.#headerChanged) return;
    await this.#cache.writeDirty();
    if (this.#headerChanged) await this.#writeHeader();
    await this.file.flush();
  }

  /** In memory, until the next flush. */
  #change(changes: Partial<VdiHeader>): void {
    this.header = { ...this.header, ...changes };
    this.#headerChanged = true;
  }

  async #writeHeader(): Promise<void> {
    await this.file.write(0, VDI_HEADER.encode(this.header));
    this.#headerChanged = false;
  }

  /** Changes that must be whole: the header is one sector, a cut leaves the old or the new one. */
  rewriteHeader(changes: Partial<VdiHeader>): Promise<void> {
    return this.#metadata.run(async () => {
      await this.#writeTables();
      this.#change(changes);
      await this.#writeHeader();
      await this.file.flush();
    });
  }

  /**
   * All blocks become absent at once: an empty map is written behind everything, then the header names it. The old map and
   * the old blocks lie in front of it and give their space back.
   */
  async empty(): Promise<void> {
    const { header } = this;
    await this.flush();
    const mapOffset = alignUp(this.file.size, 1 << 20);
    const dataOffset = alignUp(mapOffset + mapBytes(header.blocks), 1 << 20);
    await this.file.resize(dataOffset);
    await writeAbsent(this.file, mapOffset, header.blocks);
    await this.rewriteHeader({ mapOffset, dataOffset, allocatedBlocks: 0 });
    [this.#cache, this.map] = this.#openMap();
    this.#next = 0;
    const begin = alignUp(VDI_HEADER.size, 4096);
    await this.file.discard(begin, mapOffset - begin);
  }

  /** After the number of blocks or the map's place has changed. */
  reopenMap(): void {
    [this.#cache, this.map] = this.#openMap();
  }

  #openMap(): [TableCache, BlockTable] {
    const { mapOffset, blocks } = this.header;
    const end = mapOffset + mapBytes(blocks);
    const cache = new TableCache(this.file, SLICE_SIZE, MAP_CACHE_BYTES, { end });
    return [cache, new BlockTable(cache, this.#codec(), mapOffset, blocks)];
  }

  #codec(): EntryCodec {
    return {
      size: MAP_ENTRY_SIZE,
      decode: (view, at, block) => {
        const number = view.getUint32(at, true);
        if (number === MAP_ABSENT) return ABSENT;
        if (number === MAP_ZEROS) return ZEROS;
        return this.#judge(this.header.dataOffset + number * this.header.blockSize, block);
      },
      encode: (view, at, place) => {
        const { dataOffset, blockSize } = this.header;
        const number = place === ABSENT ? MAP_ABSENT : place === ZEROS ? MAP_ZEROS : (place - dataOffset) / blockSize;
        view.setUint32(at, number, true);
      },
    };
  }

  /** The last block may be as short as the disk. */
  #judge(place: number, block: number): number {
    const { blockSize, diskSize, mapOffset } = this.header;
    const needed = Math.min(blockSize, diskSize - block * blockSize);
    if (place + needed <= this.file.size) return place;
    throw new DiskError(
      "CORRUPT",
      `Cannot use vdi ${this.file.label}: block ${block} lies at byte ${place}, allowed up to ${this.file.size - needed} (byte ${mapOffset + block * MAP_ENTRY_SIZE})`,
      { details: { block, place } },
    );
  }
}

/** A map without any block. */
export async function writeAbsent(file: HostFile, mapOffset: number, blocks: number): Promise<void> {
  const piece = new Uint8Array(Math.min(1 << 20, mapBytes(blocks))).fill(0xff);
  for (let at = 0; at < mapBytes(blocks); at += piece.length)
    await file.write(mapOffset + at, piece.subarray(0, Math.min(piece.length, mapBytes(blocks) - at)));
}
