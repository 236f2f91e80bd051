/** What is wrong with a volume group: every rule that LVM2's vg_validate has for what we know, and why a group may not be changed. */
import {
  type Area,
  areaExtents,
  extentCount,
  type LogicalVolume,
  numberField,
  type Segment,
  type VolumeGroup,
} from "./metadata.js";
import { groupNameProblem } from "./names.js";
import { segmentType, VOLUME_KEYS } from "./segments/types.js";

export interface PeRun {
  readonly pe: number;
  readonly count: number;
  readonly volume: string;
}

const counted = new WeakMap<VolumeGroup, ReadonlyMap<string, readonly PeRun[]>>();

/** The runs of extents in use on each physical volume, ascending; also overlapping ones. Found once for each group. */
export function usedRuns(group: VolumeGroup): ReadonlyMap<string, readonly PeRun[]> {
  let runs = counted.get(group);
  if (!runs) {
    runs = findRuns(group);
    counted.set(group, runs);
  }
  return runs;
}

function findRuns(group: VolumeGroup): Map<string, PeRun[]> {
  const runs = new Map<string, PeRun[]>(group.physicalVolumes.map((pv) => [pv.name, []]));
  for (const volume of group.logicalVolumes)
    for (const segment of volume.segments) {
      const count = areaExtents(segment);
      for (const area of [...segment.areas, ...segment.metadataAreas])
        if (area.kind === "pv") runs.get(area.pv)?.push({ pe: area.pe, count, volume: volume.name });
    }
  for (const list of runs.values()) list.sort((a, b) => a.pe - b.pe);
  return runs;
}

/** A sentence for each thing; empty for a sound group. */
export function checkGroup(group: VolumeGroup): string[] {
  return [...checkNames(group), ...checkExtents(group), ...checkVolumes(group), ...checkCycles(group)];
}

const GROUP_STATUS = new Set(["RESIZEABLE", "READ", "WRITE", "EXPORTED", "PVMOVE", "CLUSTERED", "SHARED"]);
const PV_STATUS = new Set(["ALLOCATABLE", "EXPORTED", "MISSING"]);
const LV_STATUS = new Set(
  "READ WRITE VISIBLE FIXED_MINOR PVMOVE LOCKED NOTSYNCED REBUILD WRITEMOSTLY PARTIAL".split(" "),
);

/** What the text holds that nobody here knows the meaning of; such a group is shown and not changed. */
export function unknownParts(group: VolumeGroup): string[] {
  const problems: string[] = [];
  const unknown = (what: string, names: readonly string[], known: ReadonlySet<string>) => {
    for (const name of names)
      if (!known.has(name)) problems.push(`${what} has the unknown status ${JSON.stringify(name)}`);
  };
  unknown(`volume group ${group.name}`, group.status, GROUP_STATUS);
  for (const pv of group.physicalVolumes) unknown(`physical volume ${pv.name}`, pv.status, PV_STATUS);
  for (const volume of group.logicalVolumes) {
    unknown(`logical volume ${volume.name}`, volume.status, LV_STATUS);
    for (const { type, typeFlags } of volume.segments)
      if (!segmentType(type) || typeFlags.length > 0)
        problems.push(
          `logical volume ${volume.name} has a segment of the unknown type ${[type, ...typeFlags].join("+")}`,
        );
  }
  return problems;
}

function checkNames({ name, physicalVolumes, logicalVolumes }: VolumeGroup): string[] {
  const problem = groupNameProblem(name);
  return [
    ...(problem ? [`volume group name ${JSON.stringify(name)}: ${problem}`] : []),
    ...logicalVolumes.flatMap((volume) => {
      const found = groupNameProblem(volume.name);
      return found ? [`logical volume name ${JSON.stringify(volume.name)}: ${found}`] : [];
    }),
    ...twiceIn(
      "physical volume id",
      physicalVolumes.map((pv) => pv.id),
    ),
    ...twiceIn(
      "logical volume id",
      logicalVolumes.map((volume) => volume.id),
    ),
  ];
}

function twiceIn(what: string, values: readonly string[]): string[] {
  if (new Set(values).size === values.length) return [];
  const seen = new Set<string>();
  const twice = new Set<string>();
  for (const value of values) (seen.has(value) ? twice : seen).add(value);
  return [...twice].map((value) => `${what} ${value} is used twice`);
}

function checkExtents(group: VolumeGroup): string[] {
  const problems: string[] = [];
  const runs = usedRuns(group);
  for (const { name, peCount } of group.physicalVolumes) {
    let last: PeRun | null = null;
    for (const run of runs.get(name) ?? []) {
      const end = run.pe + run.count;
      if (end > peCount)
        problems.push(`${run.volume} uses extents ${run.pe}..${end - 1} of ${name}, which has ${peCount}`);
      if (last && run.pe < last.pe + last.count)
        problems.push(`${last.volume} and ${run.volume} both use extent ${run.pe} of ${name}`);
      if (!last || end > last.pe + last.count) last = run;
    }
  }
  return problems;
}

function checkVolumes({ logicalVolumes, extentSize }: VolumeGroup): string[] {
  const sizes = new Map(logicalVolumes.map((volume) => [volume.name, extentCount(volume)]));
  return logicalVolumes.flatMap((volume) =>
    volume.segments.flatMap((segment) => [
      ...checkStripes(volume, segment, extentSize),
      ...segment.areas.flatMap((area) => checkArea(volume, segment, area, sizes)),
    ]),
  );
}

/** Whole rows of stripes only, as the kernel's striped target has them. */
function checkStripes({ name }: LogicalVolume, segment: Segment, extentSize: number): string[] {
  if (segment.type !== "striped" || segment.areas.length < 2) return [];
  const size = numberField(segment, "stripe_size");
  if (size === null || size < 8 || !Number.isInteger(Math.log2(size)))
    return [`${name} has a stripe size of ${size} sectors, allowed are powers of two from 8 on`];
  const each = areaExtents(segment) * extentSize;
  return each % (size * 512) === 0 ? [] : [`${name} has stripes of ${size} sectors, which do not divide ${each} bytes`];
}

/** Parts of RAID volumes hold their share only. */
function checkArea(
  { name }: LogicalVolume,
  segment: Segment,
  area: Area,
  sizes: ReadonlyMap<string, number>,
): string[] {
  if (area.kind === "pv" || (segment.type !== "striped" && segment.type !== "mirror")) return [];
  const has = sizes.get(area.lv) ?? 0;
  const end = area.le + areaExtents(segment);
  return end <= has ? [] : [`${name} uses extents ${area.le}..${end - 1} of ${area.lv}, which has ${has}`];
}

/** The volumes that a volume is made of or belongs to. */
export function volumesBelow({ segments }: LogicalVolume): string[] {
  const names: string[] = [];
  for (const { areas, metadataAreas, fields } of segments) {
    for (const area of areas) if (area.kind === "lv") names.push(area.lv);
    for (const area of metadataAreas) if (area.kind === "lv") names.push(area.lv);
    for (const field of fields)
      if (field.kind === "assign" && VOLUME_KEYS.has(field.key) && typeof field.value === "string")
        names.push(field.value);
  }
  return names;
}

/** A volume that lies on itself, by whatever way. */
function checkCycles({ logicalVolumes }: VolumeGroup): string[] {
  const below = new Map(logicalVolumes.map((volume) => [volume.name, volumesBelow(volume)]));
  const state = new Map<string, "open" | "done">();
  const problems: string[] = [];
  for (const start of below.keys()) {
    const stack: { name: string; next: number }[] = [{ name: start, next: 0 }];
    if (state.has(start)) continue;
    state.set(start, "open");
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const child = below.get(top.name)?.[top.next++];
      if (child === undefined) {
        state.set(top.name, "done");
        stack.pop();
      } else if (state.get(child) === "open") {
        problems.push(`logical volume ${child} lies on itself`);
      } else if (!state.has(child) && below.has(child)) {
        state.set(child, "open");
        stack.push({ name: child, next: 0 });
      }
    }
  }
  return problems;
}
