/** The superblock and bitmap of one leg, read and encoded. Bytes only: what they mean for the volume is assemble.ts. */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { SECTOR } from "../layout.js";
import {
  BITMAP_HEADER,
  BITMAP_HEADER_SIZE,
  BITMAP_OFFSET,
  type BitmapHeader,
  RAID_SUPERBLOCK,
  type RaidSuperblock,
} from "./layout.js";

/** All ones: to the end, or none. */
export const ALL = 0xffff_ffff_ffff_ffffn;
/** What one superblock can name: legs by the bits of `failedDevices`. */
export const MAX_LEGS = 64;

export interface LegMetadata {
  readonly superblock: RaidSuperblock;
  /** Null: there is none that counts. */
  readonly bitmap: { readonly header: BitmapHeader; readonly bits: Uint8Array } | null;
}

/** `blank`: all zeros, as LVM2 makes it for the kernel to fill. `unreadable`: the device failed. */
export type ReadMetadata = LegMetadata | "blank" | "unreadable";

/** `bitmapBytes`: of the bits. Throws for what must not be touched: a superblock of another kind, a reshape under way. */
export async function readMetadata(meta: BlockDevice, bitmapBytes: number): Promise<ReadMetadata> {
  const wanted = Math.min(meta.size, BITMAP_OFFSET + BITMAP_HEADER_SIZE + bitmapBytes);
  const head = new Uint8Array(wanted);
  try {
    await meta.read(0, head);
  } catch (error) {
    if (error instanceof DiskError && error.code === "IO") return "unreadable";
    throw error;
  }
  if (head.subarray(0, SECTOR).every((byte) => byte === 0)) return "blank";
  const superblock = RAID_SUPERBLOCK.decode(head);
  if (superblock.incompatFeatures !== 0 || superblock.compatFeatures > 1)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot use ${meta.label}: its RAID superblock has features ${superblock.compatFeatures} and ${superblock.incompatFeatures}, allowed 0 or 1, and 0`,
    );
  if ((superblock.flags & 1) !== 0)
    throw new DiskError("UNSUPPORTED", `Cannot use ${meta.label}: a reshape of the volume is under way`);
  return { superblock, bitmap: bitmapOf(head, superblock) };
}

function bitmapOf(head: Uint8Array, { events }: RaidSuperblock): LegMetadata["bitmap"] {
  if (head.length < BITMAP_OFFSET + BITMAP_HEADER_SIZE) return null;
  try {
    const header = BITMAP_HEADER.decode(head, BITMAP_OFFSET);
    if (header.events < events || (header.state & 2) !== 0) return null;
    return { header, bits: head.subarray(BITMAP_OFFSET + BITMAP_HEADER_SIZE) };
  } catch {
    return null; // not a bitmap: every region counts as dirty
  }
}

/** What all superblocks of a volume have in common. */
export interface SetFacts {
  readonly legs: number;
  readonly level: number;
  readonly layout: number;
  /** Sectors; 0 for RAID 1. */
  readonly stripeSectors: number;
  /** Bytes. */
  readonly size: number;
  readonly legSize: number;
  /** Bytes that regions are counted over. */
  readonly syncSize: number;
  readonly regionSize: number;
}

export interface SuperblockState {
  readonly position: number;
  readonly events: bigint;
  readonly failed: bigint;
  readonly recoveryOffset: bigint;
  readonly resyncOffset: bigint;
}

export function encodeSuperblock(facts: SetFacts, state: SuperblockState): Uint8Array {
  const { legs, level, layout, stripeSectors, size, legSize } = facts;
  return RAID_SUPERBLOCK.encode({
    compatFeatures: 1,
    devices: legs,
    position: state.position,
    events: state.events,
    failedDevices: state.failed,
    recoveryOffset: state.recoveryOffset,
    resyncOffset: state.resyncOffset,
    level,
    layout,
    stripeSectors,
    flags: 0,
    reshapePosition: ALL,
    newLevel: level,
    newLayout: layout,
    newStripeSectors: stripeSectors,
    deltaDisks: 0,
    arraySectors: BigInt(size / SECTOR),
    dataOffset: 0n,
    newDataOffset: 0n,
    sectors: BigInt(legSize / SECTOR),
    moreFailedDevices: new Uint8Array(24),
    incompatFeatures: 0,
  });
}

export function encodeBitmapHeader(facts: SetFacts, events: bigint, eventsCleared: bigint): Uint8Array {
  return BITMAP_HEADER.encode({
    uuid: new Uint8Array(16),
    events,
    eventsCleared,
    syncSectors: BigInt(facts.syncSize / SECTOR),
    state: 0,
    regionSize: facts.regionSize,
    daemonSleep: 5,
    writeBehind: 0,
    sectorsReserved: 0,
    nodes: 0,
  });
}

/** Bytes from the begin of an `_rmeta` volume that are in use with so many regions. */
export function metadataSize(regions: number): number {
  return BITMAP_OFFSET + BITMAP_HEADER_SIZE + Math.ceil(regions / 8);
}
