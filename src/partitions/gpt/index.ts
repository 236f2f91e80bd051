/** GUID partition table (UEFI 2.10, chapter 5), for logical sectors of 512 and 4096 bytes. Does not support entry arrays above 384 KiB. */
import { randomGuid } from "../../bytes/guid.js";
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import type { EmptyTableOptions, TableFormat } from "../registry.js";
import type { GptTable, PartitionTable } from "../table.js";
import { ENTRY_COUNT, ENTRY_SIZE, GPT_HEADER, MIN_ARRAY_BYTES } from "./layout.js";
import { readGpt } from "./read.js";
import { gptSteps } from "./write.js";

const REVISION_1_0 = 0x0001_0000;

export const gpt: TableFormat = {
  label: "gpt",
  names: ["gpt"],
  title: "GUID partition table",
  read: readGpt,
  empty: emptyGpt,
  newId: randomGuid,
  steps: (before: PartitionTable | null, after: PartitionTable) => gptSteps(before, after as GptTable),
};

/** 128 entries, usable space from right behind the primary's entries to right before the backup's. */
function emptyGpt({ device, size, sectorSize, id }: EmptyTableOptions): GptTable {
  const lastLba = Math.floor(size / sectorSize) - 1;
  const arrayBlocks = MIN_ARRAY_BYTES / sectorSize;
  const firstUsableLba = 2 + arrayBlocks;
  const backupEntriesLba = lastLba - arrayBlocks;
  if (backupEntriesLba <= firstUsableLba) {
    const least = (2 * arrayBlocks + 4) * sectorSize;
    throw new DiskError(
      "NO_SPACE",
      `Cannot make a GPT on ${device}: it has ${formatSize(size)}, at least ${formatSize(least)} are needed`,
    );
  }
  const lastUsableLba = backupEntriesLba - 1;
  return {
    label: "gpt",
    device,
    id,
    sectorSize,
    size,
    firstUsableLba,
    lastUsableLba,
    partitions: [],
    problems: [],
    onDisk: {
      bootSector: new Uint8Array(512),
      header: emptyHeader(id, firstUsableLba, lastUsableLba, lastLba),
      entrySize: ENTRY_SIZE,
      entryCount: ENTRY_COUNT,
      entries: new Uint8Array(ENTRY_COUNT * ENTRY_SIZE),
      entriesLba: 2,
      backupLba: lastLba,
      backupEntriesLba,
      primaryGood: false,
      backupGood: false,
    },
  };
}

/** What every header begins with; the writer fills in what differs between the copies. */
function emptyHeader(
  diskGuid: string,
  firstUsableLba: number,
  lastUsableLba: number,
  alternateLba: number,
): Uint8Array {
  return GPT_HEADER.encode({
    revision: REVISION_1_0,
    headerSize: GPT_HEADER.size,
    headerCrc32: 0,
    myLba: 1,
    alternateLba,
    firstUsableLba,
    lastUsableLba,
    diskGuid,
    entriesLba: 2,
    entryCount: ENTRY_COUNT,
    entrySize: ENTRY_SIZE,
    entriesCrc32: 0,
  });
}
