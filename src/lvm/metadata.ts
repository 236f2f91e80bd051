/**
 * A volume group as a value: what its metadata text says, in bytes and extents, whatever disks it lies on. Never changed in place:
 * `changes/` plan a new one, `commit.ts` writes it. What this version does not know is kept in `rest` and written back.
 * Names of physical volumes (`pv0`) are local to one text. Sizes are bytes; extents are counted, physical (pe) and logical (le).
 */
import { DiskError } from "../errors.js";
import type { Entry } from "./config/tree.js";

export type AllocationPolicy = "contiguous" | "cling" | "normal" | "anywhere" | "inherit";
export const POLICIES: readonly AllocationPolicy[] = ["contiguous", "cling", "normal", "anywhere", "inherit"];

export interface VolumeGroup {
  readonly name: string;
  readonly id: string;
  /** Raised by each change. */
  readonly seqno: number;
  /** RESIZEABLE READ WRITE EXPORTED …, in the order of the text. */
  readonly status: readonly string[];
  readonly flags: readonly string[];
  readonly tags: readonly string[];
  /** Bytes. */
  readonly extentSize: number;
  /** 0: as many as one likes. */
  readonly maxLv: number;
  readonly maxPv: number;
  /** The host that may use the group; empty: every one. */
  readonly systemId: string;
  /** For groups that several hosts share. */
  readonly lockType: string;
  readonly allocation: AllocationPolicy;
  readonly physicalVolumes: readonly PhysicalVolume[];
  readonly logicalVolumes: readonly LogicalVolume[];
  /** Unknown or unused here: profile, metadata_copies, historical_logical_volumes. */
  readonly rest: readonly Entry[];
}

export interface PhysicalVolume {
  readonly name: string;
  readonly id: string;
  /** Where it was when the text was written; a hint. */
  readonly device: string;
  readonly status: readonly string[];
  readonly flags: readonly string[];
  readonly tags: readonly string[];
  /** Bytes; null when the text does not say. */
  readonly deviceSize: number | null;
  /** Byte where the first extent begins. */
  readonly peStart: number;
  readonly peCount: number;
  readonly rest: readonly Entry[];
}

export interface LogicalVolume {
  readonly name: string;
  readonly id: string;
  readonly status: readonly string[];
  readonly flags: readonly string[];
  readonly tags: readonly string[];
  /** Seconds since 1970; null when unknown. */
  readonly creationTime: number | null;
  readonly creationHost: string | null;
  readonly allocation: AllocationPolicy;
  /** Ascending, gapless, from extent 0. */
  readonly segments: readonly Segment[];
  /** read_ahead, major, minor, profile, lock_args and what is unknown. */
  readonly rest: readonly Entry[];
}

/** A run of logical extents that are mapped in one way. */
export interface Segment {
  /** First logical extent. */
  readonly start: number;
  readonly count: number;
  /** `striped`, `raid1`, `thin-pool` …; linear is striped with one stripe. */
  readonly type: string;
  /** Suffixes of the type. */
  readonly typeFlags: readonly string[];
  readonly tags: readonly string[];
  /** Stripes, mirror legs, RAID images; each `count / stripes` or `count` extents long, as the type says. */
  readonly areas: readonly Area[];
  /** RAID: the volumes that hold superblock and bitmap of each image. */
  readonly metadataAreas: readonly Area[];
  /** The other fields of the type as they stand: stripe_size, region_size, origin, thin_pool … */
  readonly fields: readonly Entry[];
}

/** Where extents of a segment begin: on a physical volume, or within another logical one. */
export type Area =
  | { readonly kind: "pv"; readonly pv: string; readonly pe: number }
  | { readonly kind: "lv"; readonly lv: string; readonly le: number };

/** What the text says around the group. */
export interface TextHeader {
  readonly description: string;
  readonly creationHost: string;
  /** Seconds since 1970. */
  readonly creationTime: number;
}

export function findVolume(group: VolumeGroup, name: string): LogicalVolume {
  const found = group.logicalVolumes.find((volume) => volume.name === name);
  if (found) return found;
  throw new DiskError("NOT_FOUND", `Failed to find logical volume "${group.name}/${name}"`, {
    details: { group: group.name, volume: name },
  });
}

export function extentCount(volume: LogicalVolume): number {
  const last = volume.segments.at(-1);
  return last ? last.start + last.count : 0;
}

/** Bytes. */
export function volumeSize(group: VolumeGroup, volume: LogicalVolume): number {
  return extentCount(volume) * group.extentSize;
}

export function isVisible(volume: LogicalVolume): boolean {
  return volume.status.includes("VISIBLE");
}

/** Whether users put something onto it: visible, and no pool. */
export function holdsData(volume: LogicalVolume): boolean {
  return isVisible(volume) && !/^(thin|cache|vdo)-pool$|^snapshot$/.test(volume.segments[0]?.type ?? "");
}

/** Whether some metadata says that the device is gone. */
export function isMarkedMissing({ flags, status }: PhysicalVolume): boolean {
  return flags.includes("MISSING") || status.includes("MISSING");
}

/** A number among a segment's fields. */
export function numberField({ fields }: Segment, key: string): number | null {
  const value = fieldValue(fields, key);
  return typeof value === "number" ? value : null;
}

/** A string among a segment's fields. */
export function textField({ fields }: Segment, key: string): string | null {
  const value = fieldValue(fields, key);
  return typeof value === "string" ? value : null;
}

export function fieldValue(entries: readonly Entry[], key: string): unknown {
  const entry = entries.find((field) => field.kind === "assign" && field.key === key);
  return entry?.kind === "assign" ? entry.value : undefined;
}

/** Extents that each area of a segment takes. */
export function areaExtents({ type, count, areas }: Segment): number {
  return type === "striped" ? count / Math.max(1, areas.length) : count;
}
