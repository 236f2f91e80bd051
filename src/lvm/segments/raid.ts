/**
 * RAID segments, over the volumes of their legs (raid/): raid1, raid10, raid4, raid5, raid6 with all layouts. One that lacks legs it
 * can do without is opened all the same. A reshape under way is refused.
 */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { SECTOR } from "../layout.js";
import { findVolume, numberField, type Segment, type VolumeGroup } from "../metadata.js";
import { assembleLegs } from "../raid/assemble.js";
import { layCopies } from "../raid/copies.js";
import type { LegIo, LegLayout } from "../raid/leg-io.js";
import { type RaidLevel, raidLevel } from "../raid/levels.js";
import { layParity } from "../raid/parity-rows.js";
import { RmetaRecord } from "../raid/rmeta-record.js";
import { readMetadata, type SetFacts } from "../raid/superblock.js";
import { openLeg, startSet } from "./legs.js";
import { type OpenContext, segmentSize, type Target } from "./target.js";

export async function openRaid(context: OpenContext, segment: Segment): Promise<Target> {
  const { label, writable, group, volume } = context;
  const { level, facts } = setFacts(group, segment, label);
  const images = segment.areas.map((area) => (area.kind === "lv" ? findVolume(group, area.lv) : null));
  const has = (leg: number, status: string) => images[leg]?.status.includes(status) ?? false;
  const legs: { image: BlockDevice | null; slow: boolean }[] = [];
  const metas: (BlockDevice | null)[] = [];
  for (const [leg, area] of segment.areas.entries()) {
    legs.push({ image: await openLeg(context, area, facts.legSize), slow: has(leg, "WRITEMOSTLY") });
    metas.push(await openMeta(context, segment, leg));
  }
  const bitmapBytes = Math.ceil(facts.syncSize / facts.regionSize / 8);
  const found = await Promise.all(
    metas.map((meta, leg) => (meta && legs[leg]!.image ? readMetadata(meta, bitmapBytes) : null)),
  );
  const assembled = assembleLegs(facts, found, {
    label,
    notSynced: volume.status.includes("NOTSYNCED"),
    rebuild: legs.map((_, leg) => has(leg, "REBUILD")),
    parity: level.parity > 0,
  });
  const { events, eventsCleared } = assembled;
  return startSet(context, {
    label,
    size: facts.size,
    writable,
    legs,
    assembled,
    record: new RmetaRecord({ facts, metas, parity: level.parity > 0, events, eventsCleared }),
    regionSize: facts.regionSize,
    layout: (io) => layoutOf(io, level, facts, segment, label),
  });
}

async function openMeta(context: OpenContext, segment: Segment, leg: number): Promise<BlockDevice | null> {
  const area = segment.metadataAreas[leg];
  return area?.kind === "lv" ? openLeg(context, area, volumeBytes(context.group, area.lv)) : null;
}

function volumeBytes(group: VolumeGroup, name: string): number {
  return findVolume(group, name).segments.reduce((sum, segment) => sum + segmentSize(group, segment), 0);
}

function layoutOf(io: LegIo, level: RaidLevel, facts: SetFacts, segment: Segment, label: string): LegLayout {
  const { size, legSize } = facts;
  const chunk = facts.stripeSectors * SECTOR;
  if (level.parity > 0) return layParity(io, { label, level, legSize, chunk });
  if (level.level === 1) return layCopies(io, { label, size, chunk: size, copies: io.count });
  return layCopies(io, { label, size, chunk, copies: dataCopies(segment) });
}

function dataCopies(segment: Segment): number {
  return numberField(segment, "data_copies") ?? 2;
}

/** What the text says of a RAID segment, checked. */
export function setFacts(group: VolumeGroup, segment: Segment, label: string): { level: RaidLevel; facts: SetFacts } {
  const level = raidLevel(segment.type)!;
  const legs = segment.areas.length;
  const size = segmentSize(group, segment);
  const regionSize = (numberField(segment, "region_size") ?? 0) * SECTOR;
  const stripeSectors = level.level === 1 ? 0 : (numberField(segment, "stripe_size") ?? 0);
  const copies = level.level === 1 ? legs : level.level === 10 ? dataCopies(segment) : 1;
  const width = (legs - level.parity) / copies;
  const refuse = (what: string): never => {
    throw new DiskError("CORRUPT", `Cannot open ${label}: ${what}`);
  };
  if (legs < 2 || legs > 64 || legs - level.parity < 1) refuse(`it has ${legs} legs, allowed are 2 to 64`);
  if (!isPowerOfTwo(regionSize / SECTOR)) refuse(`its region size is ${regionSize} bytes, allowed are powers of two`);
  if (level.level !== 1 && (!isPowerOfTwo(stripeSectors) || stripeSectors < 8))
    refuse(`its stripe size is ${stripeSectors} sectors, allowed are powers of two from 8 on`);
  const legSize = size / width;
  if (!Number.isInteger(legSize / (Math.max(1, stripeSectors) * SECTOR)))
    refuse(`${legs} legs of chunks of ${stripeSectors} sectors do not make up ${size} bytes`);
  return {
    level,
    facts: {
      ...{ legs, level: level.level, layout: level.layout, stripeSectors, size, legSize, regionSize },
      syncSize: level.parity > 0 ? legSize : size,
    },
  };
}

function isPowerOfTwo(value: number): boolean {
  return value >= 1 && Number.isInteger(Math.log2(value));
}
