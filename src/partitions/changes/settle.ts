/** A GPT on a disk that has changed its size: the backup and the usable space follow the disk's end before anything else is planned. */
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import type { GptTable, PartitionTable } from "../table.js";

export interface Settled<T extends PartitionTable> {
  readonly table: T;
  /** Sentences for the summary; empty when nothing moves. */
  readonly summary: readonly string[];
}

/** Throws `NO_SPACE` when partitions lie where the backup has to go. */
export function settle(table: PartitionTable): Settled<PartitionTable> {
  return table.label === "gpt" ? settleGpt(table) : { table, summary: [] };
}

export function settleGpt(table: GptTable): Settled<GptTable> {
  const { sectorSize, onDisk } = table;
  const backupLba = Math.floor(table.size / sectorSize) - 1;
  if (onDisk.backupLba === backupLba && table.lastUsableLba < onDisk.backupEntriesLba) return { table, summary: [] };
  const arrayBlocks = Math.ceil((onDisk.entryCount * onDisk.entrySize) / sectorSize);
  const backupEntriesLba = backupLba - arrayBlocks;
  const lastUsableLba = backupEntriesLba - 1;
  const end = (lastUsableLba + 1) * sectorSize;
  const beyond = table.partitions.filter(({ offset, size }) => offset + size > end).map(({ number }) => number);
  if (beyond.length > 0 || lastUsableLba < table.firstUsableLba) {
    const found = `partitions ${beyond.join(" ")} reach past byte ${end}, where the backup GPT of ${formatSize(table.size)} begins`;
    throw new DiskError("NO_SPACE", `Cannot write the GPT of ${table.device}: ${found}`, {
      details: { numbers: beyond, end },
    });
  }
  return {
    table: { ...table, lastUsableLba, onDisk: { ...onDisk, backupLba, backupEntriesLba } },
    summary: [`move the backup GPT from block ${onDisk.backupLba} to the disk's end, block ${backupLba}`],
  };
}
