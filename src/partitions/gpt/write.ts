/** Writing a GPT: both copies and the protective MBR as bytes, and the order in which they reach the disk (see `../plan.ts`). */
import { isZero } from "../../bytes/align.js";
import { crc32 } from "../../bytes/checksum.js";
import { DiskError } from "../../errors.js";
import { findBootSector, isProtective } from "../mbr/boot-sector.js";
import {
  BOOT_SECTOR,
  BOOT_SECTOR_SIZE,
  type BootSector,
  entriesOf,
  MAX_LBA,
  PROTECTIVE_TYPE,
  UNUSED_ENTRY,
} from "../mbr/layout.js";
import { FLUSH, type Step } from "../step.js";
import type { GptTable, Partition, PartitionTable } from "../table.js";
import { decodeName, encodeName, GPT_ENTRY, GPT_HEADER } from "./layout.js";

interface Piece {
  readonly offset: number;
  readonly data: Uint8Array;
  readonly what: string;
}

export function gptSteps(before: PartitionTable | null, after: GptTable): Step[] {
  const pieces = encodeGpt(after);
  const { primary, backup, boot } = pieces;
  refuseToOverwrite(after, [...primary, ...backup]);
  if (before?.label === "gpt" && before.sectorSize === after.sectorSize && isSame(before, pieces)) return [];
  if (before?.label === "gpt") {
    // The copy that is read now is overwritten last.
    const copies = before.onDisk.primaryGood ? [...backup, ...primary] : [...primary, ...backup];
    const bootChanged = Buffer.compare(boot.data, before.onDisk.bootSector) !== 0;
    return inOrder([...copies, ...(bootChanged ? [boot] : []), ...leftovers(before, after)]);
  }
  const [first, second] = before && touchesChain(before, backup) ? [primary, backup] : [backup, primary];
  return inOrder([...staleHeaders(before), ...first, boot, ...second, ...unusedHeaderPlace(after)]);
}

/** The last line of defence: a table that says nothing sensible about its own place must not cost a partition its data. */
function refuseToOverwrite({ device, partitions }: GptTable, pieces: readonly Piece[]): void {
  for (const { number, offset, size } of partitions) {
    const piece = pieces.find(({ offset: at, data }) => at < offset + size && offset < at + data.length);
    if (!piece) continue;
    const text = `partition ${number} has bytes ${offset}..${offset + size}, the ${piece.what} belong at byte ${piece.offset}`;
    throw new DiskError("NO_SPACE", `Cannot write the GPT of ${device}: ${text}`, { details: { number } });
  }
}

function inOrder(pieces: readonly Piece[]): Step[] {
  return pieces.flatMap((piece) => [{ kind: "write" as const, ...piece }, FLUSH]);
}

/** Both copies are good and say this already, and so does the boot sector. */
function isSame(before: GptTable, wanted: GptPieces): boolean {
  if (
    !before.onDisk.primaryGood ||
    !before.onDisk.backupGood ||
    before.problems.some(({ code }) => code === "copies-differ")
  )
    return false;
  if (Buffer.compare(wanted.boot.data, before.onDisk.bootSector) !== 0) return false;
  const now = encodeGpt(before);
  const copies = (pieces: GptPieces) => [...pieces.primary, ...pieces.backup];
  return copies(now).every(({ offset, data }, i) => {
    const piece = copies(wanted)[i]!;
    return piece.offset === offset && Buffer.compare(piece.data, data) === 0;
  });
}

export interface GptPieces {
  /** Entries, then header: a header is valid only with its entries in place. */
  readonly primary: readonly Piece[];
  readonly backup: readonly Piece[];
  readonly boot: Piece;
}

export function encodeGpt(table: GptTable): GptPieces {
  const { sectorSize, onDisk } = table;
  const entries = encodeEntries(table);
  const entriesCrc32 = crc32(entries);
  const primary = encodeHeader(table, {
    myLba: 1,
    alternateLba: onDisk.backupLba,
    entriesLba: onDisk.entriesLba,
    entriesCrc32,
  });
  const backup = encodeHeader(table, {
    myLba: onDisk.backupLba,
    alternateLba: 1,
    entriesLba: onDisk.backupEntriesLba,
    entriesCrc32,
  });
  return {
    primary: [
      { offset: onDisk.entriesLba * sectorSize, data: entries, what: "entries of the primary GPT" },
      { offset: sectorSize, data: primary, what: "header of the primary GPT" },
    ],
    backup: [
      { offset: onDisk.backupEntriesLba * sectorSize, data: entries, what: "entries of the backup GPT" },
      { offset: onDisk.backupLba * sectorSize, data: backup, what: "header of the backup GPT" },
    ],
    boot: { offset: 0, data: encodeBootSector(table), what: "protective MBR" },
  };
}

/** The entries as they were, changed only where the table says otherwise: bytes without a name of ours survive. */
function encodeEntries(table: GptTable): Uint8Array {
  const { entries, entrySize, entryCount } = table.onDisk;
  const array = new Uint8Array(entryCount * entrySize);
  array.set(entries.subarray(0, array.length));
  const bySlot = new Map(table.partitions.map((partition) => [partition.number - 1, partition]));
  for (let slot = 0; slot < entryCount; slot++) {
    const bytes = array.subarray(slot * entrySize, (slot + 1) * entrySize);
    const partition = bySlot.get(slot);
    // A slot that is emptied, or used anew, keeps nothing of what was in it.
    if (!partition || isZero(bytes.subarray(0, 16))) bytes.fill(0);
    if (partition) encodeEntry(partition, table.sectorSize, bytes);
  }
  return array;
}

function encodeEntry(partition: Partition, sectorSize: number, bytes: Uint8Array): void {
  const old = GPT_ENTRY.decode(bytes);
  GPT_ENTRY.encode(
    {
      typeGuid: partition.type,
      uniqueGuid: partition.uuid!,
      firstLba: partition.offset / sectorSize,
      lastLba: (partition.offset + partition.size) / sectorSize - 1,
      attributes: partition.attributes,
      name: decodeName(old.name) === partition.name ? old.name : encodeName(partition.name),
    },
    bytes,
  );
}

type CopyFields = { myLba: number; alternateLba: number; entriesLba: number; entriesCrc32: number };

/** A whole block: the header, whatever followed its 92 known bytes, and zeros. */
function encodeHeader(table: GptTable, copy: CopyFields): Uint8Array {
  const { onDisk, firstUsableLba, lastUsableLba } = table;
  const old = GPT_HEADER.decode(onDisk.header);
  const block = new Uint8Array(table.sectorSize);
  block.set(onDisk.header);
  const { entryCount, entrySize } = onDisk;
  const header = {
    ...old,
    ...copy,
    headerCrc32: 0,
    firstUsableLba,
    lastUsableLba,
    diskGuid: table.id,
    entryCount,
    entrySize,
  };
  GPT_HEADER.encode(header, block);
  GPT_HEADER.encode({ ...header, headerCrc32: crc32(block.subarray(0, old.headerSize)) }, block);
  return block;
}

/** Sector 0 with boot code and foreign entries as they were; a protective entry is written only where it is missing or wrong. */
function encodeBootSector(table: GptTable): Uint8Array {
  const bytes = table.onDisk.bootSector.slice();
  const boot = findBootSector(bytes);
  const lastLba = Math.floor(table.size / table.sectorSize) - 1;
  if (boot && isProtective(boot) && (isHybrid(boot) || coversDisk(boot, lastLba))) return bytes;
  const entry1 = {
    bootIndicator: 0,
    startChs: Uint8Array.of(0x00, 0x02, 0x00),
    type: PROTECTIVE_TYPE,
    endChs: Uint8Array.of(0xff, 0xff, 0xff),
    startLba: 1,
    sectors: Math.min(lastLba, MAX_LBA),
  };
  const code = boot ? bytes.slice(0, 440) : new Uint8Array(440);
  const kept = { bootCode: code, diskSignature: 0, unknown: new Uint8Array(2), signature: 0xaa55 };
  return BOOT_SECTOR.encode(
    { ...kept, entry1, entry2: UNUSED_ENTRY, entry3: UNUSED_ENTRY, entry4: UNUSED_ENTRY },
    new Uint8Array(BOOT_SECTOR_SIZE),
  );
}

function isHybrid(boot: BootSector): boolean {
  return entriesOf(boot).some(({ type }) => type !== 0 && type !== PROTECTIVE_TYPE);
}

function coversDisk(boot: BootSector, lastLba: number): boolean {
  return entriesOf(boot).some(
    ({ type, startLba, sectors }) =>
      type === PROTECTIVE_TYPE && startLba === 1 && (sectors === Math.min(lastLba, MAX_LBA) || sectors === MAX_LBA),
  );
}

/** Headers at places that the new table does not use: an old backup before the disk grew, or those of the other sector size. */
function leftovers(before: GptTable, after: GptTable): Piece[] {
  const pieces: Piece[] = [];
  const old = before.onDisk.backupLba * before.sectorSize;
  const now = after.onDisk.backupLba * after.sectorSize;
  const inTail = old >= after.onDisk.backupEntriesLba * after.sectorSize;
  const inUse = after.partitions.some(({ offset, size }) => old < offset + size && offset < old + before.sectorSize);
  if (before.onDisk.backupGood && old !== now && !inTail && !inUse)
    pieces.push({ offset: old, data: new Uint8Array(before.sectorSize), what: "wipe the former backup header" });
  if (before.sectorSize !== after.sectorSize)
    pieces.push(...unusedHeaderPlace(after), ...unusedArrayPlace(before, after));
  return pieces;
}

/** With 4096-byte blocks nothing else clears byte 512, where the header of a 512-byte table would be. */
function unusedHeaderPlace({ sectorSize }: GptTable): Piece[] {
  return sectorSize === 512
    ? []
    : [{ offset: 512, data: new Uint8Array(sectorSize - 512), what: "clear the rest of block 0" }];
}

/** Blocks of another size put the backup's array elsewhere: what the old one leaves before the new one is cleared. */
function unusedArrayPlace(before: GptTable, after: GptTable): Piece[] {
  const offset = before.onDisk.backupEntriesLba * before.sectorSize;
  const end = Math.min(after.onDisk.backupEntriesLba * after.sectorSize, offset + before.onDisk.entries.length);
  const inUse = after.partitions.some((other) => offset < other.offset + other.size && other.offset < end);
  if (!before.onDisk.backupGood || offset >= end || inUse) return [];
  return [{ offset, data: new Uint8Array(end - offset), what: "clear the rest of the former backup" }];
}

/** An MBR disk may carry the headers of a former GPT, which the protective MBR would bring back to life. */
function staleHeaders(before: PartitionTable | null): Piece[] {
  if (before?.label !== "dos") return [];
  return before.onDisk.staleGpt.map((offset) => ({
    offset,
    data: new Uint8Array(512),
    what: "wipe a left-over GPT header",
  }));
}

function touchesChain(before: PartitionTable, pieces: readonly Piece[]): boolean {
  if (before.label !== "dos") return false;
  const sectors = before.onDisk.chain.map(({ lba }) => lba * before.sectorSize);
  return sectors.some((at) =>
    pieces.some(({ offset, data }) => at < offset + data.length && offset < at + before.sectorSize),
  );
}
