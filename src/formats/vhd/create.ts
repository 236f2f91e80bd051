/** A new, empty VHD. */
import type { HostFile } from "../../block/host-file.js";
import { parseUuid, randomUuid } from "../../bytes/guid.js";
import type { CreateOptions } from "../format.js";
import { createRaw } from "../raw/create.js";
import { geometryFor } from "./geometry.js";
import { tableBytes } from "./header.js";
import {
  bitmapBytes,
  DEFAULT_BLOCK_SIZE,
  encodeFooter,
  encodeHeader,
  NO_OFFSET,
  SECTOR,
  TABLE_ENTRY_SIZE,
  VERSION,
  VHD_HEADER,
  type VhdFooter,
  type VhdHeader,
} from "./layout.js";
import { makeLocators } from "./locators.js";
import { SUBFORMAT } from "./options.js";
import { NO_PARENT, parentFields, secondsSince2000 } from "./replace.js";

/**
 * Of the known creators the one by which every reader takes the size from the footer: Hyper-V's. QEMU and others go by
 * geometry for creators that they do not know, and would cut the disk short.
 */
const CREATOR = { creator: "win ", creatorVersion: 0x000a_0000, creatorHost: "Wi2k" } as const;

export async function createVhd(file: HostFile, size: number, options: CreateOptions): Promise<void> {
  const fixed = options.values.get(SUBFORMAT) === "fixed";
  const footer: VhdFooter = {
    cookie: "conectix",
    features: 2,
    version: VERSION,
    headerOffset: fixed ? NO_OFFSET : BigInt(SECTOR),
    timestamp: secondsSince2000(options.now()),
    ...CREATOR,
    originalSize: size,
    currentSize: size,
    ...geometryFor(size),
    type: fixed ? "fixed" : options.backing ? "differencing" : "dynamic",
    checksum: 0,
    uuid: parseUuid(randomUuid(options.random)),
    savedState: 0,
    reserved: new Uint8Array(427),
  };
  if (!fixed) return createDynamic(file, size, footer, options);
  await createRaw(file, size, options.preallocation === "metadata" ? { ...options, preallocation: "off" } : options);
  await file.resize(size + SECTOR);
  await file.write(size, encodeFooter(footer));
}

async function createDynamic(file: HostFile, size: number, footer: VhdFooter, options: CreateOptions): Promise<void> {
  const blocks = Math.ceil(size / DEFAULT_BLOCK_SIZE);
  const behindHeader = SECTOR + VHD_HEADER.size;
  const backing = options.backing;
  const parent = backing && {
    ...parentFields(`vhd ${file.label}`, backing),
    ...makeLocators(backing.name, behindHeader),
    parentTimestamp: secondsSince2000(options.now()),
  };
  const tableOffset = behindHeader + (parent?.data.length ?? 0);
  const { data, ...parentOf } = parent ?? { ...NO_PARENT, data: new Uint8Array(0) };
  const header: VhdHeader = {
    cookie: "cxsparse",
    nextOffset: NO_OFFSET,
    tableOffset,
    version: VERSION,
    blocks,
    blockSize: DEFAULT_BLOCK_SIZE,
    checksum: 0,
    reserved: 0,
    rest: new Uint8Array(256),
    ...parentOf,
  };
  const table = Buffer.alloc(tableBytes(blocks), 0xff);
  let end = tableOffset + table.length;
  if (options.preallocation !== "off") end = await placeBlocks(file, end, table, blocks);
  await file.resize(end + SECTOR);
  await file.write(SECTOR, encodeHeader(header));
  if (data.length > 0) await file.write(behindHeader, data);
  await file.write(tableOffset, table);
  await file.write(end, encodeFooter(footer));
  await file.write(0, encodeFooter(footer));
  if (options.preallocation === "falloc" || options.preallocation === "full") await file.allocate(0, end);
}

/** Every block at its place, all of its sectors stored: zeros that take no space. Returns where they end. */
async function placeBlocks(file: HostFile, begin: number, table: Buffer, blocks: number): Promise<number> {
  const bitmap = new Uint8Array(bitmapBytes(DEFAULT_BLOCK_SIZE)).fill(0xff);
  const stored = bitmap.length + DEFAULT_BLOCK_SIZE;
  await file.resize(begin + blocks * stored);
  for (let block = 0; block < blocks; block++) {
    table.writeUInt32BE((begin + block * stored) / SECTOR, block * TABLE_ENTRY_SIZE);
    await file.write(begin + block * stored, bitmap);
  }
  return begin + blocks * stored;
}
