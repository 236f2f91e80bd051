/**
 * Writing an MBR and its chain of EBRs. A disk cannot change two sectors at once, so every change ends in one sector that
 * switches: new EBRs go to sectors that the old chain does not use, and the MBR or the EBR that links them is written last.
 * A change that needs the MBR and the first EBR (which has a fixed place) at once goes by a bridge: see `throughBridge`.
 */
import { DiskError } from "../../errors.js";
import { FLUSH, type Step } from "../step.js";
import type { MbrTable, Partition, PartitionTable } from "../table.js";
import { findBootSector, isProtective } from "./boot-sector.js";
import { encodeChs } from "./chs.js";
import {
  ACTIVE,
  BOOT_SECTOR,
  BOOT_SECTOR_SIZE,
  type BootSector,
  entriesOf,
  isUsed,
  MAX_LBA,
  type MbrEntry,
  UNUSED_ENTRY,
} from "./layout.js";

/** By LBA, 512 bytes each: the MBR at 0 and the EBRs. */
export type MbrSectors = ReadonlyMap<number, Uint8Array>;

const NONE: ReadonlySet<number> = new Set();
const LINK_TYPE = 0x05;
/** sfdisk and fdisk leave a mebibyte for the EBR, so that the data behind it stays aligned. */
const EBR_DISTANCE = 1 << 20;
/** Sectors before the first logical partition that are looked at: a chain of fifteen cannot use more. */
const BRIDGE_TRIES = 64;

export function mbrSteps(before: PartitionTable | null, after: MbrTable): Step[] {
  const old =
    before?.label === "dos" && before.sectorSize === after.sectorSize
      ? sectorsOnDisk(before)
      : new Map<number, Uint8Array>();
  const first = extendedLba(after);
  let wanted = encodeMbr(after, NONE);
  let switches = changed(old, wanted);
  if (switches.length > 1) {
    // Move the changed EBRs to unused sectors; then the first EBR or the MBR alone switches.
    wanted = encodeMbr(after, new Set(old.keys()));
    switches = changed(old, wanted);
  }
  if (switches.length > 1) return throughBridge(before as MbrTable, after, switches);
  // The chain's end first: an extended partition that was never filled gets its first EBR last, and that one switches.
  const fresh = [...wanted.keys()].filter((lba) => lba !== 0 && !old.has(lba)).reverse();
  const switching = switches.length > 0 || !old.has(0) ? [switches[0] ?? 0] : [];
  const cosmetic = [...wanted.keys()].filter(
    (lba) => old.has(lba) && !switching.includes(lba) && !equal(old.get(lba)!, wanted.get(lba)!),
  );
  const write = (lba: number): Step[] => {
    const what = lba === 0 ? "MBR" : lba === first ? "first EBR" : `EBR at sector ${lba}`;
    return [{ kind: "write", offset: lba * after.sectorSize, data: wanted.get(lba)!, what }, FLUSH];
  };
  return [...fresh.flatMap(write), ...switching.flatMap(write), ...wipeGpt(before), ...cosmetic.flatMap(write)];
}

function sectorsOnDisk({ onDisk }: MbrTable): Map<number, Uint8Array> {
  return new Map([[0, onDisk.bootSector], ...onDisk.chain.map(({ lba, bytes }) => [lba, bytes] as const)]);
}

/** Sectors of both tables whose meaning differs. */
function changed(old: MbrSectors, wanted: MbrSectors): number[] {
  return [...wanted.keys()].filter((lba) => old.has(lba) && !sameMeaning(lba, old.get(lba)!, wanted.get(lba)!));
}

/** In an EBR the link's length and the CHS fields mean nothing to any reader. */
function sameMeaning(lba: number, a: Uint8Array, b: Uint8Array): boolean {
  if (lba === 0) return equal(a, b);
  const [left, right] = [BOOT_SECTOR.decode(a), BOOT_SECTOR.decode(b)];
  const data = ({ entry1: { bootIndicator, type, startLba, sectors } }: BootSector) =>
    [bootIndicator, type, startLba, sectors].join();
  const link = ({ entry2 }: BootSector) => (isUsed(entry2) ? entry2.startLba : null);
  return data(left) === data(right) && link(left) === link(right);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/**
 * The MBR and the first EBR change at once, and both have fixed places. So the extended partition first begins at another free
 * sector, with a whole chain of its own; once the MBR says so, the old first EBR is free to be rewritten, and the MBR goes back
 * to it. In between the table is the new one, but for the sector at which the extended partition begins.
 */
function throughBridge(before: MbrTable, after: MbrTable, switches: readonly number[]): Step[] {
  const extended = after.partitions.find(({ kind }) => kind === "extended");
  const lba = extended && bridgeLba(before, after, extended);
  if (!extended || lba === undefined) throw twoSectors(after, switches);
  const { sectorSize } = after;
  const moved = { ...extended, offset: lba * sectorSize, size: extended.offset + extended.size - lba * sectorSize };
  const bridge = { ...after, partitions: after.partitions.map((other) => (other === extended ? moved : other)) };
  const sectors = encodeMbr(bridge, new Set(sectorsOnDisk(before).keys()));
  const logical = after.partitions.filter(({ kind }) => kind === "logical");
  const chain = [...sectors].slice(1).map(([at, bytes], i) => {
    const partition = logical[i];
    return {
      lba: at,
      bytes,
      number: partition?.number ?? null,
      dataLba: partition ? partition.offset / sectorSize : null,
    };
  });
  const onBridge = { ...bridge, onDisk: { ...bridge.onDisk, bootSector: sectors.get(0)!, chain } };
  return [...mbrSteps(before, bridge), ...mbrSteps(onBridge, { ...after, onDisk: { ...after.onDisk, chain } })];
}

/** A sector that neither table uses, before the first logical partition. */
function bridgeLba(before: MbrTable, after: MbrTable, extended: Partition): number | undefined {
  const used = new Set([...sectorsOnDisk(before).keys(), ...encodeMbr(after, NONE).keys()]);
  const first = extended.offset / after.sectorSize;
  const firstData =
    Math.min(
      ...after.partitions.filter(({ kind }) => kind === "logical").map(({ offset }) => offset),
      extended.offset + extended.size,
    ) / after.sectorSize;
  for (let lba = firstData - 1; lba > first && lba > firstData - BRIDGE_TRIES; lba--) if (!used.has(lba)) return lba;
  return undefined;
}

function twoSectors(after: MbrTable, switches: readonly number[]): DiskError {
  const text = `Cannot change the MBR of ${after.device} in one step: sectors ${switches.join(" and ")} would change at once, a cut between them would leave neither table`;
  return new DiskError("UNSUPPORTED", `${text}; change primary and logical partitions one after the other`, {
    details: { sectors: [...switches] },
  });
}

/** The GPT that was here before: its headers are wiped once the MBR counts. */
function wipeGpt(before: PartitionTable | null): Step[] {
  if (before?.label !== "gpt") return [];
  const { sectorSize, onDisk } = before;
  const wipe = (lba: number, what: string): Step[] => [
    { kind: "write", offset: lba * sectorSize, data: new Uint8Array(sectorSize), what },
    FLUSH,
  ];
  return [
    ...wipe(1, "wipe the primary GPT header"),
    ...(onDisk.backupGood ? wipe(onDisk.backupLba, "wipe the backup GPT header") : []),
  ];
}

function extendedLba(table: MbrTable): number | undefined {
  const extended = table.partitions.find(({ kind }) => kind === "extended");
  return extended && extended.offset / table.sectorSize;
}

/** All sectors of the table. EBRs after the first keep out of `avoid` unless they are unchanged. */
export function encodeMbr(table: MbrTable, avoid: ReadonlySet<number>): MbrSectors {
  const { sectorSize } = table;
  const sectors = new Map<number, Uint8Array>([[0, encodeBootSector(table)]]);
  const first = extendedLba(table);
  const logical = table.partitions.filter(({ kind }) => kind === "logical");
  if (first === undefined) return sectors;
  if (logical.length === 0) return sectors.set(first, encodeEbr(table, first, undefined, undefined, undefined));
  const places = placeEbrs(table, first, logical, avoid);
  for (const [i, partition] of logical.entries()) {
    const nextLba = places[i + 1];
    const next =
      nextLba === undefined
        ? undefined
        : { lba: nextLba, end: (logical[i + 1]!.offset + logical[i + 1]!.size) / sectorSize };
    sectors.set(places[i]!, encodeEbr(table, places[i]!, first, partition, next));
  }
  return sectors;
}

function encodeBootSector(table: MbrTable): Uint8Array {
  const bytes = table.onDisk.bootSector;
  const old = findBootSector(bytes);
  const kept = old && !isProtective(old) ? old : null;
  const slots = kept ? entriesOf(kept) : [UNUSED_ENTRY, UNUSED_ENTRY, UNUSED_ENTRY, UNUSED_ENTRY];
  const entries = slots.map((slot, i) => {
    const partition = table.partitions.find(({ number }) => number === i + 1);
    return partition ? encodeEntry(partition, slot, 0, table) : isUsed(slot) ? UNUSED_ENTRY : slot;
  });
  const [entry1, entry2, entry3, entry4] = entries;
  const value: Partial<BootSector> = {
    ...kept,
    bootCode: bytes.slice(0, 440),
    diskSignature: Number(table.id),
    signature: 0xaa55,
  };
  return BOOT_SECTOR.encode({ ...value, entry1: entry1!, entry2: entry2!, entry3: entry3!, entry4: entry4! });
}

interface Next {
  readonly lba: number;
  /** Block behind the next logical partition. */
  readonly end: number;
}

/** One EBR; bytes that an EBR at this place had outside of its two entries are kept. */
function encodeEbr(
  table: MbrTable,
  lba: number,
  first: number | undefined,
  partition: Partition | undefined,
  next: Next | undefined,
): Uint8Array {
  const found = table.onDisk.chain.find((ebr) => ebr.lba === lba);
  const old = found && BOOT_SECTOR.decode(found.bytes);
  const entry1 = partition ? encodeEntry(partition, old?.entry1 ?? UNUSED_ENTRY, lba, table) : UNUSED_ENTRY;
  const entry2 = next && first !== undefined ? encodeLink(next, first, old?.entry2 ?? UNUSED_ENTRY) : UNUSED_ENTRY;
  return BOOT_SECTOR.encode(
    { diskSignature: 0, ...old, entry1, entry2, signature: 0xaa55 },
    new Uint8Array(BOOT_SECTOR_SIZE),
  );
}

function encodeLink(next: Next, first: number, old: MbrEntry): MbrEntry {
  const sectors = next.end - next.lba;
  if (isUsed(old) && old.startLba === next.lba - first)
    return { ...old, sectors: old.sectors >= sectors ? old.sectors : sectors };
  const chs = { startChs: encodeChs(next.lba), endChs: encodeChs(next.end - 1) };
  return { bootIndicator: 0, type: LINK_TYPE, startLba: next.lba - first, sectors, ...chs };
}

/** An entry relative to `origin`; CHS bytes of an entry that stays in place are kept. */
function encodeEntry(partition: Partition, old: MbrEntry, origin: number, table: MbrTable): MbrEntry {
  const lba = partition.offset / table.sectorSize;
  const sectors = partition.size / table.sectorSize;
  if (lba - origin > MAX_LBA || sectors > MAX_LBA) {
    const reach = (MAX_LBA + 1) * table.sectorSize;
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot write partition ${partition.number} of ${table.device}: it ends at byte ${partition.offset + partition.size}, an MBR reaches ${reach}`,
    );
  }
  const inPlace = isUsed(old) && old.startLba === lba - origin && old.sectors === sectors;
  const chs = inPlace
    ? { startChs: old.startChs, endChs: old.endChs }
    : { startChs: encodeChs(lba), endChs: encodeChs(lba + sectors - 1) };
  return {
    bootIndicator: partition.bootable ? ACTIVE : 0,
    type: Number.parseInt(partition.type, 16),
    startLba: lba - origin,
    sectors,
    ...chs,
  };
}

/**
 * Where each logical partition's EBR lies: the first at the extended partition's start, the others where they were, or a mebibyte
 * before their data, or in the last free sector before it. Throws `NO_SPACE` when partitions touch and leave no sector.
 */
function placeEbrs(
  table: MbrTable,
  first: number,
  logical: readonly Partition[],
  avoid: ReadonlySet<number>,
): number[] {
  const { sectorSize, onDisk } = table;
  const known = new Map<number, number>(); // data block -> EBR block, as on the disk
  for (const { lba, dataLba } of onDisk.chain) if (dataLba !== null) known.set(dataLba, lba);
  const places = [first];
  for (const [i, partition] of logical.entries()) {
    const lba = partition.offset / sectorSize;
    if (i === 0) {
      if (lba > first) continue;
      throw noRoom(table, partition);
    }
    const floor = Math.max(
      first,
      ...logical.map(({ offset, size }) => (offset + size) / sectorSize - 1).filter((end) => end < lba),
    );
    const unchanged = avoid.size === 0 ? known.get(lba) : undefined;
    const candidates = [
      onDisk.ebrPlaces?.get(partition.number),
      unchanged,
      lba - EBR_DISTANCE / sectorSize,
      lba - 1,
      lba - 2,
      lba - 3,
      lba - 4,
    ];
    const place = candidates.find(
      (at) => at !== undefined && at > floor && at < lba && !places.includes(at) && !avoid.has(at),
    );
    if (place === undefined) throw noRoom(table, partition);
    places.push(place);
  }
  return places;
}

/** The block of a logical partition's EBR, as the table would be written. */
export function ebrLba(table: MbrTable, number: number): number {
  const logical = table.partitions.filter(({ kind }) => kind === "logical");
  const places = placeEbrs(table, extendedLba(table)!, logical, NONE);
  return places[logical.findIndex((partition) => partition.number === number)]!;
}

function noRoom(table: MbrTable, { number }: Partition): DiskError {
  const text = `Cannot write logical partition ${number} of ${table.device}: there is no free sector before it, its EBR needs one`;
  return new DiskError("NO_SPACE", text, { details: { number } });
}
