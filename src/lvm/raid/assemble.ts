/**
 * What the superblocks of all legs together say: which legs are current, and where legs may differ. The rules are the kernel's
 * (dm-raid.c, md-bitmap.c), with one difference: dirty bits always mean "make alike". The kernel drops them unheard when the array
 * was never marked as in use, which it does not do itself while it writes; legs then differ in silence after a power cut.
 */
import { DiskError } from "../../errors.js";
import { SECTOR } from "../layout.js";
import type { LegState } from "./record.js";
import { Regions } from "./regions.js";
import { ALL, type LegMetadata, type ReadMetadata, type SetFacts } from "./superblock.js";

export interface AssembleOptions {
  readonly label: string;
  /** The group says that legs were never made alike, and need not be. */
  readonly notSynced: boolean;
  /** Legs that the group says are to be filled anew. */
  readonly rebuild: readonly boolean[];
  /** Legs of parity: what one of them held follows from the others. */
  readonly parity: boolean;
}

export interface Assembled {
  readonly legs: LegState[];
  /** As on disk. */
  readonly dirty: Regions;
  /** Where legs that are current may differ. */
  readonly stale: Regions;
  /** What each leg that is behind lacks. */
  readonly behind: ReadonlyMap<number, Regions>;
  /** Whether all current legs say the same. After a cut some may not know the newest state yet, and could be asked alone later. */
  readonly agreed: boolean;
  readonly events: bigint;
  readonly eventsCleared: bigint;
}

/** `found`: by leg; null for one that is missing. */
export function assembleLegs(
  facts: SetFacts,
  found: readonly (ReadMetadata | null)[],
  options: AssembleOptions,
): Assembled {
  const count = Math.ceil(facts.syncSize / facts.regionSize);
  const known = found.filter((each): each is LegMetadata => typeof each === "object" && each !== null);
  if (known.length === 0) return fresh(count, found, options);
  const best = known.reduce((most, each) => (each.superblock.events > most.superblock.events ? each : most));
  checkFacts(facts, best, options.label);
  const dirty = dirtyRegions(count, facts, best);
  const behind = new Map<number, Regions>();
  const legs = found.map((each, leg): LegState => {
    if (each === null || each === "unreadable") return "failed";
    const lacks = each === "blank" || options.rebuild[leg] ? Regions.all(count) : lackOf(each, best, dirty);
    if (!lacks) return "in sync";
    behind.set(leg, lacks);
    return "behind";
  });
  const degraded = legs.some((state) => state !== "in sync");
  const { resyncOffset } = best.superblock;
  // Bits of a volume that does without a leg tell what that leg has missed. Parity is of no use to it where it may not fit.
  const counts = resyncOffset !== ALL || !(options.parity && degraded);
  const stale = counts ? Regions.from(count, dirty.bits) : new Regions(count);
  return {
    legs,
    dirty,
    stale,
    behind,
    agreed: legs.every((state, leg) => state !== "in sync" || agrees(facts, found[leg]!, leg, best, dirty)),
    events: best.superblock.events,
    eventsCleared: best.bitmap?.header.eventsCleared ?? 0n,
  };
}

/** Nobody has used the volume yet. */
function fresh(count: number, found: readonly (ReadMetadata | null)[], options: AssembleOptions): Assembled {
  return {
    legs: found.map((each) => (each === "blank" ? "in sync" : "failed")),
    dirty: options.notSynced ? new Regions(count) : Regions.all(count),
    stale: options.notSynced ? new Regions(count) : Regions.all(count),
    behind: new Map(),
    agreed: true,
    events: 0n,
    eventsCleared: 0n,
  };
}

function agrees(facts: SetFacts, each: ReadMetadata, leg: number, best: LegMetadata, dirty: Regions): boolean {
  if (typeof each === "string" || !each.bitmap) return false;
  const { events, failedDevices, resyncOffset, devices, position, arraySectors } = each.superblock;
  const { superblock } = best;
  const asBest =
    events === superblock.events &&
    failedDevices === superblock.failedDevices &&
    resyncOffset === superblock.resyncOffset;
  const asGroup = devices === facts.legs && position === leg && Number(arraySectors) * SECTOR === facts.size;
  return asBest && asGroup && Buffer.compare(Regions.from(dirty.count, each.bitmap.bits).bits, dirty.bits) === 0;
}

function checkFacts(facts: SetFacts, { superblock }: LegMetadata, label: string): void {
  const { level, layout, stripeSectors } = superblock;
  if (level !== facts.level || layout !== facts.layout || stripeSectors !== facts.stripeSectors)
    throw new DiskError(
      "CORRUPT",
      `Cannot open ${label}: its RAID superblocks say level ${level}, layout ${layout}, chunks of ${stripeSectors} sectors; its volume group says ${facts.level}, ${facts.layout}, ${facts.stripeSectors}`,
    );
}

/** Every region where the bitmap cannot be trusted. Regions behind the end of one for a smaller volume are dirty too. */
function dirtyRegions(count: number, facts: SetFacts, { bitmap, superblock }: LegMetadata): Regions {
  if (!bitmap || bitmap.header.regionSize !== facts.regionSize)
    return superblock.resyncOffset === ALL && bitmap && !anyBit(bitmap.bits) ? new Regions(count) : Regions.all(count);
  const dirty = Regions.from(count, bitmap.bits);
  const covered = Math.ceil((Number(bitmap.header.syncSectors) * SECTOR) / facts.regionSize);
  for (let region = covered; region < count; region++) dirty.add(region);
  return dirty;
}

function anyBit(bits: Uint8Array): boolean {
  return bits.some((byte) => byte !== 0);
}

/** Null for a leg that is current. */
function lackOf({ superblock }: LegMetadata, best: LegMetadata, dirty: Regions): Regions | null {
  const failed = (best.superblock.failedDevices & (1n << BigInt(superblock.position))) !== 0n;
  if (superblock.recoveryOffset !== ALL) return Regions.all(dirty.count);
  if (!failed) return null;
  const remembered = best.bitmap && best.bitmap.header.eventsCleared <= superblock.events;
  return remembered ? Regions.from(dirty.count, dirty.bits) : Regions.all(dirty.count);
}
