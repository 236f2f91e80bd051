/**
 * Reading a GPT: two copies, each a header and an entry array with a CRC. Either good copy suffices.
 *
 *   LBA 0           1        2 … 33                              n-33 … n-2    n-1
 *   protective MBR  header   entries        partitions           entries       header
 *                   primary copy                                 backup copy
 *
 * The sector size is not written anywhere: it is the one at which LBA 1, or the disk's last block, holds a header.
 * The array may lie elsewhere and its entries may be longer than 128 bytes; bytes that we have no name for are kept.
 */
import { isZero } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import { findBootSector, hasPartitions, isProtective } from "../mbr/boot-sector.js";
import { BOOT_SECTOR_SIZE, type BootSector, entriesOf, MAX_LBA, PROTECTIVE_TYPE } from "../mbr/layout.js";
import type { GptTable, Partition, ReadTableOptions, SectorSize, TableProblem } from "../table.js";
import type { TableView } from "../view.js";
import { type Copy, hasSignature, readCopy } from "./copy.js";
import { decodeName, GPT_ENTRY, type GptHeader } from "./layout.js";

/** What a rewrite needs to keep: the bytes as they were, and where they lay. */
export interface GptOnDisk {
  /** The first 512 bytes of the disk: boot code, and the protective or hybrid MBR. */
  readonly bootSector: Uint8Array;
  /** `headerSize` bytes of the good header, with what follows the 92 known ones. */
  readonly header: Uint8Array;
  readonly entrySize: number;
  readonly entryCount: number;
  /** The entry array, `entrySize * entryCount` bytes. */
  readonly entries: Uint8Array;
  /** First block of the primary's array. */
  readonly entriesLba: number;
  /** Where the backup's header and array are, or belong. */
  readonly backupLba: number;
  readonly backupEntriesLba: number;
  readonly primaryGood: boolean;
  readonly backupGood: boolean;
}

export const SECTOR_SIZES: readonly SectorSize[] = [512, 4096];
export async function readGpt(view: TableView, options: ReadTableOptions): Promise<GptTable | null> {
  const boot = findBootSector(view.head);
  if (boot && hasPartitions(boot)) return null;
  const sizes = options.sectorSize ? [options.sectorSize] : SECTOR_SIZES;
  const reasons: string[] = [];

  for (const sectorSize of sizes) {
    const primary = await readCopy(view, sectorSize, 1);
    if (primary.copy) return fromPrimary(view, boot, sectorSize, primary.copy);
    reasons.push(primary.reason);
  }
  if (!mayBeLeftToBackup(view, boot, sizes)) return null;
  for (const [i, sectorSize] of sizes.entries()) {
    for (const lba of backupCandidates(view, boot, sectorSize)) {
      const backup = await readCopy(view, sectorSize, lba);
      if (backup.copy) return fromBackup(view, boot, sectorSize, backup.copy, reasons[i]!);
    }
  }
  if (!isClaimed(view, boot, sizes)) return null;
  const found = sizes.map((size, i) => `${size}-byte blocks: ${reasons[i]}`).join("; ");
  throw new DiskError(
    "CORRUPT",
    `Cannot read the GPT of ${view.label}: both copies are bad, one good copy is needed (${found}; no backup at the end)`,
  );
}

/** Whether sector 0 or LBA 1 says that this disk has a GPT. */
function isClaimed(view: TableView, boot: BootSector | null, sizes: readonly SectorSize[]): boolean {
  return (boot !== null && isProtective(boot)) || sizes.some((size) => hasSignature(view.head, size));
}

/** A backup alone is believed when the disk's start claims a GPT or is wiped; otherwise it is left over from the disk's former life. */
function mayBeLeftToBackup(view: TableView, boot: BootSector | null, sizes: readonly SectorSize[]): boolean {
  return isClaimed(view, boot, sizes) || isZero(view.head);
}

/** The disk's last block, and where the protective MBR says that the disk ended when the table was made. */
export function backupCandidates(view: TableView, boot: BootSector | null, sectorSize: SectorSize): number[] {
  const last = Math.floor(view.size / sectorSize) - 1;
  const protective = boot && entriesOf(boot).find(({ type }) => type === PROTECTIVE_TYPE);
  const before = protective ? protective.startLba + protective.sectors - 1 : last;
  return before > 1 && before < last ? [last, before] : [last];
}

async function fromPrimary(
  view: TableView,
  boot: BootSector | null,
  sectorSize: SectorSize,
  primary: Copy,
): Promise<GptTable> {
  const { header } = primary;
  const lastLba = Math.floor(view.size / sectorSize) - 1;
  const backup = await readCopy(view, sectorSize, header.alternateLba, primary);
  const problems: TableProblem[] = [];
  if (!backup.copy) problems.push(damage("backup-damaged", `the backup GPT is bad: ${backup.reason}`));
  else if (!sameTable(primary, backup.copy))
    problems.push(damage("copies-differ", "the backup GPT differs from the primary one, which is believed"));
  if (header.alternateLba !== lastLba)
    problems.push(
      damage(
        "backup-not-at-end",
        `the backup GPT is at block ${header.alternateLba}, the disk's last block is ${lastLba}`,
      ),
    );
  const backupEntriesLba = backup.copy?.header.entriesLba ?? header.alternateLba - arrayBlocks(header, sectorSize);
  const places = { entriesLba: header.entriesLba, backupLba: header.alternateLba, backupEntriesLba };
  return buildGpt(view, boot, sectorSize, primary, problems, {
    ...places,
    primaryGood: true,
    backupGood: backup.copy !== undefined,
  });
}

function fromBackup(
  view: TableView,
  boot: BootSector | null,
  sectorSize: SectorSize,
  backup: Copy,
  reason: string,
): GptTable {
  const { header } = backup;
  const lastLba = Math.floor(view.size / sectorSize) - 1;
  const problems = [
    damage("recovered-from-backup", `the primary GPT is bad, the backup at block ${header.myLba} was read: ${reason}`),
  ];
  if (header.myLba !== lastLba)
    problems.push(
      damage("backup-not-at-end", `the backup GPT is at block ${header.myLba}, the disk's last block is ${lastLba}`),
    );
  // Where the primary's array lay is written in the primary alone: block 2 by default, nearer to the data when that is too near.
  const places = { entriesLba: 2, backupLba: header.myLba, backupEntriesLba: header.entriesLba };
  return buildGpt(view, boot, sectorSize, backup, problems, { ...places, primaryGood: false, backupGood: true });
}

type Places = Pick<GptOnDisk, "entriesLba" | "backupLba" | "backupEntriesLba" | "primaryGood" | "backupGood">;

export function buildGpt(
  view: TableView,
  boot: BootSector | null,
  sectorSize: SectorSize,
  { header, headerBytes, entries }: Copy,
  problems: TableProblem[],
  places: Places,
): GptTable {
  const { entrySize, entryCount, firstUsableLba, lastUsableLba } = header;
  const lastLba = Math.floor(view.size / sectorSize) - 1;
  const partitions = decodeEntries(entries, header, sectorSize, view.label);
  const bootSector = new Uint8Array(BOOT_SECTOR_SIZE);
  bootSector.set(view.head.subarray(0, BOOT_SECTOR_SIZE));
  return {
    label: "gpt",
    device: view.label,
    id: header.diskGuid,
    sectorSize,
    size: view.size,
    firstUsableLba,
    lastUsableLba,
    partitions,
    problems: [...problems, ...bootSectorProblems(boot, lastLba)],
    onDisk: { bootSector, header: headerBytes, entrySize, entryCount, entries, ...places },
  };
}

/** The used slots of an array as partitions. Throws `CORRUPT` for one that ends before it starts or lies beyond 2^53 bytes. */
export function decodeEntries(
  entries: Uint8Array,
  header: Pick<GptHeader, "entryCount" | "entrySize">,
  sectorSize: number,
  label: string,
): Partition[] {
  const partitions: Partition[] = [];
  for (let slot = 0; slot < header.entryCount; slot++) {
    const offset = slot * header.entrySize;
    if (isZero(entries.subarray(offset, offset + 16))) continue;
    const entry = GPT_ENTRY.decode(entries, offset);
    const { firstLba, lastLba } = entry;
    if (lastLba < firstLba || firstLba === 0 || !Number.isSafeInteger((lastLba + 1) * sectorSize)) {
      const text = `Cannot read the GPT of ${label}: partition ${slot + 1} has blocks ${firstLba}..${lastLba}, allowed a range within the disk`;
      throw new DiskError("CORRUPT", text, { details: { number: slot + 1, firstLba, lastLba } });
    }
    partitions.push({
      number: slot + 1,
      offset: firstLba * sectorSize,
      size: (lastLba - firstLba + 1) * sectorSize,
      type: entry.typeGuid,
      uuid: entry.uniqueGuid,
      name: decodeName(entry.name),
      attributes: entry.attributes,
      bootable: (entry.attributes & LEGACY_BIOS_BOOTABLE) !== 0n,
      kind: "primary",
    });
  }
  return partitions;
}

/** Attribute bit 2 (UEFI 2.10, table 5.7). */
export const LEGACY_BIOS_BOOTABLE = 4n;

function bootSectorProblems(boot: BootSector | null, lastLba: number): TableProblem[] {
  const protective = boot && entriesOf(boot).find(({ type }) => type === PROTECTIVE_TYPE);
  if (!boot || !protective)
    return [damage("protective-mbr", "there is no protective MBR: other systems see an empty disk")];
  const others = entriesOf(boot).filter(({ type }) => type !== 0 && type !== PROTECTIVE_TYPE);
  if (others.length > 0) {
    const types = others.map(({ type }) => type.toString(16)).join(" ");
    return [
      { code: "hybrid-mbr", level: "note", message: `the MBR is a hybrid: it also lists partitions of type ${types}` },
    ];
  }
  const allowed = [Math.min(lastLba, MAX_LBA), MAX_LBA];
  if (protective.startLba === 1 && allowed.includes(protective.sectors)) return [];
  const found = `it covers ${protective.sectors} blocks from ${protective.startLba}`;
  return [damage("protective-mbr", `the protective MBR is wrong: ${found}, allowed ${allowed[0]} blocks from 1`)];
}

/** Whether both copies say the same; addresses of the copies themselves differ by nature. */
function sameTable(a: Copy, b: Copy): boolean {
  return (
    a.header.diskGuid === b.header.diskGuid &&
    a.header.firstUsableLba === b.header.firstUsableLba &&
    a.header.lastUsableLba === b.header.lastUsableLba &&
    a.header.entrySize === b.header.entrySize &&
    Buffer.compare(a.entries, b.entries) === 0
  );
}

function arrayBlocks({ entryCount, entrySize }: GptHeader, sectorSize: number): number {
  return Math.ceil((entryCount * entrySize) / sectorSize);
}

function damage(code: TableProblem["code"], message: string): TableProblem {
  return { code, level: "damage", message };
}
