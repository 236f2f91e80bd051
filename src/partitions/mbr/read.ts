/**
 * Reading an MBR: four primary entries in sector 0, one of which may be an extended partition with a chain of EBRs.
 *
 *   EBR at E            EBR at E+a              EBR at E+b
 *   data: this+x        data: this+y            data: this+z       relative to the EBR itself
 *   link: E+a     --->  link: E+b         --->  no link            relative to the first EBR
 *
 * The chain is data from the disk: it is bounded, must stay within the extended partition, and may not return to where it was.
 * 32-bit sectors reach 2 TiB of 512 bytes; sectors of 4096 are not recorded on the disk and must be asked for.
 */
import { DiskError } from "../../errors.js";
import type { MbrTable, Partition, ReadTableOptions, SectorSize, TableProblem } from "../table.js";
import type { TableView } from "../view.js";
import { findBootSector, isProtective } from "./boot-sector.js";
import {
  ACTIVE,
  BOOT_SECTOR,
  BOOT_SECTOR_SIZE,
  type BootSector,
  EXTENDED_TYPES,
  entriesOf,
  isUsed,
  MAX_LBA,
  type MbrEntry,
} from "./layout.js";

/** One EBR of the chain, in chain order. */
export interface EbrOnDisk {
  readonly lba: number;
  readonly bytes: Uint8Array;
  /** The logical partition that it describes; null for one with a link only. */
  readonly number: number | null;
  /** First block of that partition, from the start of the disk. */
  readonly dataLba: number | null;
}

/** What a rewrite needs to keep: boot code, and the sectors of the chain. */
export interface MbrOnDisk {
  readonly bootSector: Uint8Array;
  readonly chain: readonly EbrOnDisk[];
  /** Where a plan wants EBRs, by partition number; the others stay or are placed by rule. */
  readonly ebrPlaces?: ReadonlyMap<number, number>;
  /** Byte offsets where the header of a former GPT is left over. */
  readonly staleGpt: readonly number[];
}

export const FIRST_LOGICAL = 5;
/** More than any system makes, few enough to be read within the reader's budget. */
const MAX_CHAIN = 128;

export async function readMbr(view: TableView, options: ReadTableOptions): Promise<MbrTable | null> {
  const boot = findBootSector(view.head);
  if (!boot || isProtective(boot)) return null;
  const sectorSize = options.sectorSize ?? 512;
  const problems: TableProblem[] = [];
  const partitions = primaries(boot, sectorSize);
  const extended = partitions.filter(({ kind }) => kind === "extended");
  if (extended.length > 1)
    problems.push({
      code: "extended",
      level: "note",
      message: "there is more than one extended partition, the first is followed",
    });
  const chain = extended[0] ? await readChain(view, extended[0], sectorSize) : [];
  for (const { ebr, entry } of chain) if (ebr.number !== null) partitions.push(logical(ebr, entry, sectorSize));
  const staleGpt = [512, 4096].filter((offset) => hasGptSignature(view.head, offset));
  if (staleGpt.length > 0)
    problems.push({
      code: "stale-gpt",
      level: "note",
      message: `a GPT header is left over at byte ${staleGpt[0]}; the MBR says that it no longer counts`,
    });
  return {
    label: "dos",
    device: view.label,
    id: formatSignature(boot.diskSignature),
    sectorSize,
    size: view.size,
    firstUsableLba: 1,
    lastUsableLba: Math.min(Math.floor(view.size / sectorSize) - 1, MAX_LBA),
    partitions,
    problems,
    onDisk: { bootSector: view.head.slice(0, BOOT_SECTOR_SIZE), chain: chain.map(({ ebr }) => ebr), staleGpt },
  };
}

export function formatSignature(signature: number): string {
  return `0x${signature.toString(16).padStart(8, "0")}`;
}

function primaries(boot: BootSector, sectorSize: SectorSize): Partition[] {
  return entriesOf(boot).flatMap((entry, slot) => {
    if (!isUsed(entry)) return [];
    const kind = EXTENDED_TYPES.includes(entry.type) ? "extended" : "primary";
    return [partition(slot + 1, entry, entry.startLba, sectorSize, kind)];
  });
}

function logical(ebr: EbrOnDisk, entry: MbrEntry, sectorSize: SectorSize): Partition {
  return partition(ebr.number!, entry, ebr.lba + entry.startLba, sectorSize, "logical");
}

function partition(
  number: number,
  entry: MbrEntry,
  lba: number,
  sectorSize: SectorSize,
  kind: Partition["kind"],
): Partition {
  return {
    number,
    offset: lba * sectorSize,
    size: entry.sectors * sectorSize,
    type: entry.type.toString(16),
    uuid: null,
    name: "",
    attributes: 0n,
    bootable: entry.bootIndicator === ACTIVE,
    kind,
  };
}

/** Follows the links. Throws `CORRUPT` where the chain breaks: what follows the break cannot be known. */
async function readChain(
  view: TableView,
  extended: Partition,
  sectorSize: SectorSize,
): Promise<{ ebr: EbrOnDisk; entry: MbrEntry }[]> {
  const first = extended.offset / sectorSize;
  const last = first + extended.size / sectorSize - 1;
  const chain: { ebr: EbrOnDisk; entry: MbrEntry }[] = [];
  const seen = new Set<number>();
  let number = FIRST_LOGICAL;
  for (let lba = first; ; ) {
    if (seen.has(lba)) throw broken(view, lba, "the chain of logical partitions returns to a sector it has passed");
    if (seen.size === MAX_CHAIN) throw broken(view, lba, `the chain of logical partitions is longer than ${MAX_CHAIN}`);
    seen.add(lba);
    const bytes = await readSector(view, lba, sectorSize);
    // An extended partition that was never filled: some tools leave its first sector empty.
    if (seen.size === 1 && bytes[510] === 0 && bytes[511] === 0) return chain;
    if (bytes[510] !== 0x55 || bytes[511] !== 0xaa)
      throw broken(view, lba, `it ends with ${hexByte(bytes[510]!)} ${hexByte(bytes[511]!)}, allowed 55 aa`);
    const { entry1: data, entry2: link } = BOOT_SECTOR.decode(bytes);
    const used = isUsed(data);
    const dataLba = used ? lba + data.startLba : null;
    chain.push({ ebr: { lba, bytes, number: used ? number : null, dataLba }, entry: data });
    if (used) number++;
    if (!isUsed(link) || !EXTENDED_TYPES.includes(link.type)) return chain;
    lba = first + link.startLba;
    if (lba > last) throw broken(view, lba, `it is outside the extended partition, allowed ${first}..${last}`);
  }
}

async function readSector(view: TableView, lba: number, sectorSize: SectorSize): Promise<Uint8Array> {
  if (lba * sectorSize > view.size - BOOT_SECTOR_SIZE)
    throw broken(view, lba, `the disk ends before it, at byte ${view.size}`);
  return (await view.read(lba * sectorSize, BOOT_SECTOR_SIZE)).slice();
}

function broken(view: TableView, lba: number, why: string): DiskError {
  return new DiskError("CORRUPT", `Cannot read the EBR of ${view.label} at sector ${lba}: ${why}`, {
    details: { lba },
  });
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, "0");
}

function hasGptSignature(head: Uint8Array, offset: number): boolean {
  return Buffer.from(head.subarray(offset, offset + 8)).toString("latin1") === "EFI PART";
}
