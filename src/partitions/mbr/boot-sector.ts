/** Sector 0 as evidence: whose is it? An MBR, a GPT's protective MBR, or a file system's boot sector that only ends with the same signature. */
import {
  ACTIVE,
  BOOT_SECTOR,
  BOOT_SECTOR_SIZE,
  type BootSector,
  entriesOf,
  isUsed,
  PROTECTIVE_TYPE,
} from "./layout.js";

/** Sector 0 decoded, or null when it is no boot sector with a partition table. */
export function findBootSector(head: Uint8Array): BootSector | null {
  if (head.length < BOOT_SECTOR_SIZE || head[510] !== 0x55 || head[511] !== 0xaa) return null;
  const sector = BOOT_SECTOR.decode(head);
  // Boot code or text where the entries would be: the kernel draws the same line.
  if (!entriesOf(sector).every(({ bootIndicator }) => bootIndicator === 0 || bootIndicator === ACTIVE)) return null;
  if (isFilesystemBootSector(head) && !isPlausible(sector)) return null;
  return sector;
}

/** Has an entry of type 0xee: a GPT is, or was, on this disk. */
export function isProtective(sector: BootSector): boolean {
  return entriesOf(sector).some((entry) => entry.type === PROTECTIVE_TYPE && isUsed(entry));
}

/** Describes partitions by itself, without being protective. */
export function hasPartitions(sector: BootSector): boolean {
  return !isProtective(sector) && entriesOf(sector).some(isUsed);
}

/** FAT, exFAT and NTFS volumes without a partition table start with a jump and a BIOS parameter block. */
function isFilesystemBootSector(head: Uint8Array): boolean {
  if (head[0] !== 0xeb && head[0] !== 0xe9) return false;
  const text = (offset: number, length: number) =>
    Buffer.from(head.subarray(offset, offset + length)).toString("latin1");
  return text(3, 8) === "NTFS    " || text(3, 8) === "EXFAT   " || text(54, 3) === "FAT" || text(82, 5) === "FAT32";
}

/** A boot sector that is both: believed as a table only when it has entries and every one of them makes sense. */
function isPlausible(sector: BootSector): boolean {
  const used = entriesOf(sector).filter(isUsed);
  return used.length > 0 && used.every(({ startLba }) => startLba > 0);
}
