/**
 * A GPT of which neither copy is whole: a good header goes with the other copy's array when the CRC says so; without any
 * good header an array alone still lists the partitions. For repair only: the reader believes nothing of this.
 */
import { DiskError } from "../../errors.js";
import { findBootSector } from "../mbr/boot-sector.js";
import type { GptTable, ReadTableOptions, SectorSize } from "../table.js";
import type { TableView } from "../view.js";
import { type Copy, readEntries, readHeader } from "./copy.js";
import { ENTRY_COUNT, ENTRY_SIZE, type GptHeader, MIN_ARRAY_BYTES } from "./layout.js";
import { backupCandidates, buildGpt, decodeEntries, SECTOR_SIZES } from "./read.js";

export interface Salvaged {
  readonly table: GptTable;
  /** Proved by a CRC; otherwise it is a proposal. */
  readonly certain: boolean;
}

/** `empty` makes the table that holds an array without header. */
export async function salvageGpt(
  view: TableView,
  options: ReadTableOptions,
  empty: (sectorSize: SectorSize) => GptTable,
): Promise<Salvaged | null> {
  const sizes = options.sectorSize ? [options.sectorSize] : SECTOR_SIZES;
  for (const sectorSize of sizes) {
    const table = await pairHeaderWithArray(view, sectorSize);
    if (table) return { table, certain: true };
  }
  for (const sectorSize of sizes) {
    const table = await arrayAlone(view, empty(sectorSize));
    if (table) return { table, certain: false };
  }
  return null;
}

async function pairHeaderWithArray(view: TableView, sectorSize: SectorSize): Promise<GptTable | null> {
  const boot = findBootSector(view.head);
  const lastLba = Math.floor(view.size / sectorSize) - 1;
  const found: { header: GptHeader; headerBytes: Uint8Array }[] = [];
  for (const lba of [1, ...backupCandidates(view, boot, sectorSize)]) {
    const result = await readHeader(view, sectorSize, lba);
    if (result.header) found.push(result);
  }
  for (const { header, headerBytes } of found) {
    const blocks = Math.ceil((header.entryCount * header.entrySize) / sectorSize);
    const places = [
      2,
      ...found.map((other) => other.header.entriesLba),
      header.alternateLba - blocks,
      lastLba - blocks,
    ];
    for (const lba of places) {
      const entries = await readEntries(view, sectorSize, header, lba);
      if (entries) return whole(view, sectorSize, { header, headerBytes, entries });
    }
  }
  return null;
}

function whole(view: TableView, sectorSize: SectorSize, copy: Copy): GptTable {
  const { header } = copy;
  const isPrimary = header.myLba === 1;
  const blocks = Math.ceil((header.entryCount * header.entrySize) / sectorSize);
  const backupLba = isPrimary ? header.alternateLba : header.myLba;
  const message = `a good GPT header at block ${header.myLba} and a good entry array were found, in different copies`;
  return buildGpt(
    view,
    findBootSector(view.head),
    sectorSize,
    copy,
    [{ code: "recovered-from-backup", level: "damage", message }],
    {
      entriesLba: isPrimary ? header.entriesLba : 2,
      backupLba,
      backupEntriesLba: isPrimary ? backupLba - blocks : header.entriesLba,
      primaryGood: false,
      backupGood: false,
    },
  );
}

/** The usual array of 128 entries at one of its two usual places, when every entry of it makes sense. */
async function arrayAlone(view: TableView, empty: GptTable): Promise<GptTable | null> {
  const { sectorSize, onDisk } = empty;
  for (const lba of [onDisk.entriesLba, onDisk.backupEntriesLba]) {
    const entries = (await view.read(lba * sectorSize, MIN_ARRAY_BYTES)).slice();
    try {
      const partitions = decodeEntries(
        entries,
        { entryCount: ENTRY_COUNT, entrySize: ENTRY_SIZE },
        sectorSize,
        view.label,
      );
      const end = (empty.lastUsableLba + 1) * sectorSize;
      const plausible = partitions.every(
        ({ offset, size }) => offset >= empty.firstUsableLba * sectorSize && offset + size <= end,
      );
      if (partitions.length > 0 && plausible) return { ...empty, partitions, onDisk: { ...onDisk, entries } };
    } catch (error) {
      if (!(error instanceof DiskError)) throw error; // not an array
    }
  }
  return null;
}
