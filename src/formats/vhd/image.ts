/**
 * An open dynamic or differencing VHD. Each block has a bitmap in front of its data: a sector whose bit is 0 is not stored here.
 * The table and the bitmaps are changed in memory and written by `flush`, in this order, with a barrier (flush) where the text says
 * "then":
 *
 *   1 data, in new blocks where the footer was      A cut leaves the copy of the footer at the begin, and leaked blocks.
 *   then
 *   2 bitmaps, and the footer behind the new end    A bit is set only when its sector is there.
 *   then
 *   3 entries of the table                          A cut leaves some of the new ones, each of a block that is complete.
 */
import type { BlockDevice } from "../../block/device.js";
import type { HostFile } from "../../block/host-file.js";
import type { Allocation, Allocator, Location, Mapping } from "../../block/mapped.js";
import { Serial } from "../../block/serial.js";
import { alignDown, alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import { ABSENT, BlockTable, type EntryCodec } from "../block-table.js";
import { TableCache } from "../table-cache.js";
import { Bitmap } from "./bitmap.js";
import { visibleSize } from "./geometry.js";
import { type Footers, storedBlock, tableBytes } from "./header.js";
import {
  bitmapBytes,
  encodeFooter,
  encodeHeader,
  SECTOR,
  TABLE_ABSENT,
  TABLE_ENTRY_SIZE,
  VHD_HEADER,
  type VhdFooter,
  type VhdHeader,
} from "./layout.js";

/** In memory, whatever the size of the disk: the largest table whole, and the bitmaps of 32 GiB. */
const TABLE_CACHE_BYTES = 8 << 20;
const BITMAP_CACHE_BYTES = 8 << 20;
const SLICE_SIZE = 4096;

/** What `replace` makes anew beside header and footer. */
export interface Replacement {
  /** Entries of a new table. */
  readonly blocks?: number;
  /** None of the old entries stays. */
  readonly absent?: boolean;
  /** For the byte at which their data will lie. */
  locators?(offset: number): { readonly locators: Uint8Array; readonly data: Uint8Array };
}

export class VhdImage implements Mapping {
  readonly label: string;
  readonly file: HostFile;
  readonly writable: boolean;
  readonly blockSize = 1;
  footer: VhdFooter;
  header: VhdHeader;
  table: BlockTable;
  /** What is not stored here; null: zeros. */
  backing: BlockDevice | null = null;
  readonly #bitmapBytes: number;
  readonly #bitmaps: TableCache;
  #entries: TableCache;
  /** Byte behind the last block, where the footer belongs. */
  #dataEnd: number;
  /** The footer at the end has to be written, or written again. */
  #footerMoved: boolean;
  readonly #metadata = new Serial();

  constructor(label: string, file: HostFile, { footer, dataEnd }: Footers, header: VhdHeader) {
    this.label = label;
    this.file = file;
    this.writable = file.writable;
    this.footer = footer;
    this.header = header;
    this.#bitmapBytes = bitmapBytes(header.blockSize);
    this.#bitmaps = new TableCache(file, this.#bitmapBytes, BITMAP_CACHE_BYTES);
    [this.#entries, this.table] = this.#openTable();
    this.#dataEnd = alignUp(dataEnd ?? file.size, SECTOR);
    this.#footerMoved = dataEnd === null || dataEnd % SECTOR !== 0;
  }

  get size(): number {
    return visibleSize(this.footer);
  }

  locate(offset: number, length: number): Location | Promise<Location> {
    const block = Math.floor(offset / this.header.blockSize);
    const place = this.table.get(block);
    return place instanceof Promise
      ? place.then((found) => this.#locationAt(block, found, offset, length))
      : this.#locationAt(block, place, offset, length);
  }

  #locationAt(block: number, place: number, offset: number, length: number): Location | Promise<Location> {
    const { blockSize } = this.header;
    const within = offset - block * blockSize;
    if (place === ABSENT) {
      const run = this.table.runOf(block, ABSENT, Math.ceil((within + length) / blockSize));
      const located = (blocks: number) => this.#below(offset, blocks * blockSize - within);
      return run instanceof Promise ? run.then(located) : located(run);
    }
    const slice = this.#bitmaps.get(place - this.#bitmapBytes);
    return slice instanceof Promise
      ? slice.then(({ bytes }) => this.#inBlock(new Bitmap(bytes), place, within, offset, length))
      : this.#inBlock(new Bitmap(slice.bytes), place, within, offset, length);
  }

  #inBlock(bitmap: Bitmap, place: number, within: number, offset: number, length: number): Location {
    const { blockSize } = this.header;
    const end = Math.min(blockSize, alignUp(within + length, SECTOR));
    const sector = Math.floor(within / SECTOR);
    const stored = bitmap.has(sector);
    const run = bitmap.endOfRun(sector, end / SECTOR, stored) * SECTOR - within;
    if (!stored) return this.#below(offset, run);
    return { kind: "data", device: this.file, offset: place + within, length: run, shared: false };
  }

  #below(offset: number, length: number): Location {
    const { backing } = this;
    if (!backing || offset >= backing.size) return { kind: "zero", length };
    return { kind: "data", device: backing, offset, length: Math.min(length, backing.size - offset), shared: true };
  }

  get allocator(): Allocator {
    return {
      unit: this.header.blockSize,
      allocate: (offset, start, length) => this.#metadata.run(() => this.#allocate(offset, start, length)),
    };
  }

  /** A dynamic disk gives a block all of its sectors, zeros mostly; a differencing one only those that are written. */
  async #allocate(offset: number, start: number, length: number): Promise<Allocation> {
    if (this.#entries.crowded || this.#bitmaps.crowded) await this.#writeTables();
    const block = offset / this.header.blockSize;
    const found = await this.table.get(block);
    const place = found === ABSENT ? await this.#newBlock() : found;
    const whole = this.backing === null && found === ABSENT;
    const blockEnd = Math.min(offset + this.header.blockSize, this.size);
    const begin = whole ? offset : alignDown(start, SECTOR);
    const end = whole ? blockEnd : Math.min(alignUp(start + length, SECTOR), blockEnd);
    const link = async () => {
      const slice = await this.#bitmaps.get(place - this.#bitmapBytes);
      const last = whole ? this.header.blockSize : alignUp(end - offset, SECTOR);
      new Bitmap(slice.bytes).add((begin - offset) / SECTOR, last / SECTOR);
      this.#bitmaps.markDirty(slice);
      if (found === ABSENT) await this.table.set(block, place);
    };
    return {
      device: this.file,
      offset: place + begin - offset,
      start: begin,
      length: end - begin,
      zeroed: found === ABSENT && this.file.resizable,
      commit: () => this.#metadata.run(link),
    };
  }

  /** Byte of the data of a new block, where the footer was. */
  async #newBlock(): Promise<number> {
    const begin = this.#dataEnd;
    const end = begin + storedBlock(this.header.blockSize);
    if (this.file.resizable) await this.file.resize(Math.max(end + SECTOR, this.file.size));
    else if (end + SECTOR > this.file.size)
      throw new DiskError(
        "NO_SPACE",
        `Cannot write ${this.label}: a new block would end at byte ${end}, ${this.file.label} has ${this.file.size}`,
      );
    await this.file.write(begin, new Uint8Array(this.#bitmapBytes));
    this.#dataEnd = end;
    this.#footerMoved = true;
    return begin + this.#bitmapBytes;
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
    if (this.#entries.dirtyBytes === 0 && this.#bitmaps.dirtyBytes === 0 && !this.#footerMoved) return;
    await this.#bitmaps.writeDirty();
    if (this.#footerMoved) await this.#writeFooter();
    if (this.#entries.dirtyBytes > 0) {
      await this.file.flush();
      await this.#entries.writeDirty();
    }
    await this.file.flush();
  }

  async #writeFooter(): Promise<void> {
    if (this.file.resizable) await this.file.resize(this.#dataEnd + SECTOR);
    await this.file.write(this.#dataEnd, encodeFooter(this.footer));
    this.#footerMoved = false;
  }

  /**
   * Another footer, header or table, whole. What is new is written behind the footer at the end, which then goes away: the copy at
   * the begin counts, one sector, which names the old ones until it names the new ones. The footer at the new end comes last.
   */
  replace(
    footer: Partial<VhdFooter>,
    header: Partial<VhdHeader>,
    { blocks, absent = false, locators }: Replacement = {},
  ): Promise<void> {
    return this.#metadata.run(async () => {
      await this.#writeTables();
      const { file } = this;
      const headerOffset = this.#dataEnd + SECTOR;
      const behind = headerOffset + VHD_HEADER.size;
      const parent = locators?.(behind);
      const tableOffset = behind + (parent?.data.length ?? 0);
      const table = blocks === undefined ? null : await this.#newTable(blocks, absent);
      const end = tableOffset + (table?.length ?? 0);
      const nextHeader = {
        ...this.header,
        ...header,
        ...(parent ? { locators: parent.locators } : {}),
        ...(table && blocks !== undefined ? { tableOffset, blocks } : {}),
      };
      const nextFooter = { ...this.footer, ...footer, headerOffset: BigInt(headerOffset) };
      await file.resize(end + SECTOR);
      await file.write(headerOffset, encodeHeader(nextHeader));
      if (parent) await file.write(behind, parent.data);
      if (table) await file.write(tableOffset, table);
      await file.zero(this.#dataEnd, SECTOR);
      await file.flush();
      await file.write(0, encodeFooter(nextFooter));
      await file.flush();
      [this.header, this.footer, this.#dataEnd] = [nextHeader, nextFooter, end];
      [this.#entries, this.table] = this.#openTable();
      await this.#writeFooter();
      await file.flush();
    });
  }

  /** The entries that stay, as they are now, and absent ones, in whole sectors. */
  async #newTable(blocks: number, absent: boolean): Promise<Uint8Array> {
    const bytes = new Uint8Array(tableBytes(blocks)).fill(0xff);
    const kept = absent ? 0 : Math.min(blocks, this.table.blocks);
    await this.file.read(this.header.tableOffset, bytes.subarray(0, kept * TABLE_ENTRY_SIZE));
    return bytes;
  }

  #openTable(): [TableCache, BlockTable] {
    const { tableOffset, blocks, blockSize } = this.header;
    const used = Math.min(blocks, Math.ceil(this.size / blockSize));
    const cache = new TableCache(this.file, SLICE_SIZE, TABLE_CACHE_BYTES, { end: tableOffset + tableBytes(used) });
    return [cache, new BlockTable(cache, this.#codec(), tableOffset, used)];
  }

  #codec(): EntryCodec {
    return {
      size: TABLE_ENTRY_SIZE,
      decode: (view, at, block) => {
        const entry = view.getUint32(at);
        if (entry === TABLE_ABSENT) return ABSENT;
        return this.#judge(entry * SECTOR + this.#bitmapBytes, block);
      },
      encode: (view, at, place) =>
        view.setUint32(at, place === ABSENT ? TABLE_ABSENT : (place - this.#bitmapBytes) / SECTOR),
    };
  }

  /** A block lies behind the copy of the footer, and within the file; the last one may be as short as the disk. */
  #judge(place: number, block: number): number {
    const { blockSize, tableOffset } = this.header;
    const needed = Math.min(blockSize, this.size - block * blockSize);
    if (place - this.#bitmapBytes >= SECTOR && place + needed <= this.file.size) return place;
    throw new DiskError(
      "CORRUPT",
      `Cannot use vhd ${this.file.label}: block ${block} lies at byte ${place - this.#bitmapBytes}, allowed ${SECTOR}..${this.file.size - needed - this.#bitmapBytes} (byte ${tableOffset + block * TABLE_ENTRY_SIZE})`,
      { details: { block, place } },
    );
  }
}
