/** Rules for volumes that are made of others: RAID, thin, snapshots. LVM2 lib/metadata/merge.c and metadata.c, `vg_validate`. */
import type { Entry } from "./config/tree.js";
import {
  type Area,
  extentCount,
  isVisible,
  type LogicalVolume,
  numberField,
  type Segment,
  textField,
  type VolumeGroup,
} from "./metadata.js";
import { VOLUME_KEYS } from "./segments/types.js";

const MAX_DEVICE_ID = (1 << 24) - 1;

/** A sentence for each thing. */
export function checkTypes({ logicalVolumes }: VolumeGroup): string[] {
  const byName = new Map(logicalVolumes.map((volume) => [volume.name, volume]));
  const spares = logicalVolumes.filter(({ name }) => name.endsWith("_pmspare"));
  const problems = spares.length > 1 ? [`there are ${spares.length} spares for metadata of pools, allowed one`] : [];
  const devices = new Set<string>();
  for (const volume of logicalVolumes)
    for (const segment of volume.segments) {
      problems.push(...checkReferences(volume, segment, byName));
      if (/^raid|^mirror$/.test(segment.type)) problems.push(...checkImages(volume, segment, byName));
      if (segment.type === "thin-pool") problems.push(...checkPool(volume, segment, byName));
      if (segment.type === "thin") problems.push(...checkThin(volume, segment, byName, devices));
    }
  return problems;
}

type Volumes = ReadonlyMap<string, LogicalVolume>;

function checkReferences({ name }: LogicalVolume, { fields }: Segment, volumes: Volumes): string[] {
  const named = (entries: readonly Entry[]): string[] =>
    entries.flatMap((entry) => {
      if (entry.kind === "section") return named(entry.entries);
      return VOLUME_KEYS.has(entry.key) && typeof entry.value === "string" ? [entry.value] : [];
    });
  return named(fields).flatMap((other) =>
    volumes.has(other) ? [] : [`${name} names the logical volume ${other}, which is not there`],
  );
}

function checkImages({ name }: LogicalVolume, segment: Segment, volumes: Volumes): string[] {
  const problems: string[] = [];
  const parts = (areas: readonly Area[]) =>
    areas.flatMap((area) => (area.kind === "lv" ? (volumes.get(area.lv) ?? []) : []));
  for (const list of [parts(segment.areas), parts(segment.metadataAreas)]) {
    const sizes = new Set(list.map(extentCount));
    if (sizes.size > 1 && segment.type !== "mirror")
      problems.push(`${name} has parts of ${[...sizes].join(" and ")} extents, allowed are equal ones`);
    for (const part of list) if (isVisible(part)) problems.push(`${part.name} is a part of ${name} and visible`);
  }
  const region = numberField(segment, "region_size");
  if (region !== null && (region <= 0 || !Number.isInteger(Math.log2(region))))
    problems.push(`${name} has a region size of ${region} sectors, allowed are powers of two`);
  return problems;
}

function checkPool({ name, segments }: LogicalVolume, segment: Segment, volumes: Volumes): string[] {
  const problems = segments.length === 1 ? [] : [`the pool ${name} has ${segments.length} segments, allowed one`];
  for (const [key, suffix] of [
    ["metadata", "_tmeta"],
    ["pool", "_tdata"],
  ] as const) {
    const part = textField(segment, key);
    if (part === null) problems.push(`the pool ${name} has no ${key}`);
    else if (!part.endsWith(suffix))
      problems.push(`the ${key} of pool ${name} is ${part}, allowed a name with ${suffix}`);
    else if (volumes.get(part)?.status.includes("VISIBLE")) problems.push(`${part} is a part of ${name} and visible`);
  }
  const chunk = numberField(segment, "chunk_size") ?? 0;
  if (chunk < 128 || chunk > 2097152 || chunk % 128 !== 0)
    problems.push(`the pool ${name} has chunks of ${chunk} sectors, allowed multiples of 128 up to 2097152`);
  return problems;
}

/** `devices` collects which ids of which pools are taken. */
function checkThin(volume: LogicalVolume, segment: Segment, volumes: Volumes, devices: Set<string>): string[] {
  const { name, segments } = volume;
  const problems =
    segments.length === 1 ? [] : [`the thin volume ${name} has ${segments.length} segments, allowed one`];
  const pool = textField(segment, "thin_pool");
  if (pool === null || volumes.get(pool)?.segments[0]?.type !== "thin-pool")
    problems.push(`the thin volume ${name} is in ${pool}, which is no pool`);
  const id = numberField(segment, "device_id") ?? -1;
  if (id < 0 || id > MAX_DEVICE_ID)
    problems.push(`the thin volume ${name} has the device id ${id}, allowed 0..${MAX_DEVICE_ID}`);
  const key = `${pool}/${id}`;
  if (devices.has(key)) problems.push(`the device id ${id} of pool ${pool} is used twice, also by ${name}`);
  devices.add(key);
  return problems;
}
