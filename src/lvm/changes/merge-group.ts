/** Two groups become one. Pure. */
import { DiskError } from "../../errors.js";
import { type Area, extentCount, isVisible, type LogicalVolume, type Segment, type VolumeGroup } from "../metadata.js";
import type { GroupPlan } from "./plan.js";
import { renameVolumes } from "./volume.js";

/** The volumes of `source` come into `target`, which keeps its name and id. `newId` is for ids that both have. */
export function planMergeGroups(target: VolumeGroup, source: VolumeGroup, newId: () => string): GroupPlan {
  return {
    group: joinGroups(target, source, newId),
    steps: [`Volume group "${source.name}" successfully merged into "${target.name}"`],
  };
}

/** Throws `DENIED` for groups that do not go together; `newId` may answer null where no id can be there twice. */
export function joinGroups(target: VolumeGroup, source: VolumeGroup, newId: () => string | null): VolumeGroup {
  const refuse = (why: string) =>
    new DiskError("DENIED", why, { details: { target: target.name, source: source.name } });
  const both = `"${target.name}" and "${source.name}"`;
  if (target.extentSize !== source.extentSize)
    throw refuse(
      `Extent sizes differ: ${target.extentSize / 1024} KiB (${target.name}) and ${source.extentSize / 1024} KiB (${source.name})`,
    );
  const pvs = target.physicalVolumes.length + source.physicalVolumes.length;
  if (target.maxPv > 0 && pvs > target.maxPv)
    throw refuse(`Maximum number of physical volumes (${target.maxPv}) exceeded for ${both}`);
  const visible = [...target.logicalVolumes, ...source.logicalVolumes].filter(isVisible).length;
  if (target.maxLv > 0 && visible > target.maxLv)
    throw refuse(`Maximum number of logical volumes (${target.maxLv}) exceeded for ${both}`);
  const { kept, added } = withoutSecondSpare(target, withFreeNames(target, source));
  const names = new Set(kept.map(({ name }) => name));
  const twice = added.find(({ name }) => names.has(name));
  if (twice) throw refuse(`Duplicate logical volume name "${twice.name}" in ${both}`);
  const ids = new Set(kept.map(({ id }) => id));
  const volumes = added.map((volume) => (ids.has(volume.id) ? { ...volume, id: newId() ?? volume.id } : volume));
  const renamed = localNames(target, source);
  return {
    ...target,
    seqno: Math.max(target.seqno, source.seqno),
    physicalVolumes: [
      ...target.physicalVolumes,
      ...source.physicalVolumes.map((pv) => ({ ...pv, name: renamed.get(pv.name)! })),
    ],
    logicalVolumes: [
      ...kept,
      ...volumes.map((volume) => ({ ...volume, segments: volume.segments.map((one) => onPvs(one, renamed)) })),
    ],
  };
}

/** Names of physical volumes that the target does not have. */
function localNames(target: VolumeGroup, source: VolumeGroup): Map<string, string> {
  const taken = new Set(target.physicalVolumes.map(({ name }) => name));
  let number = 0;
  return new Map(
    source.physicalVolumes.map(({ name }) => {
      while (taken.has(`pv${number}`)) number++;
      taken.add(`pv${number}`);
      return [name, `pv${number}`];
    }),
  );
}

function onPvs(segment: Segment, names: ReadonlyMap<string, string>): Segment {
  const area = (old: Area): Area => (old.kind === "pv" ? { ...old, pv: names.get(old.pv) ?? old.pv } : old);
  return { ...segment, areas: segment.areas.map(area), metadataAreas: segment.metadataAreas.map(area) };
}

/** Volumes whose names LVM2 gives itself (`snapshot0`, `pvmove0`, `lvol0_pmspare`) make room for the target's. */
function withFreeNames(target: VolumeGroup, source: VolumeGroup): VolumeGroup {
  const taken = new Set([...target.logicalVolumes, ...source.logicalVolumes].map(({ name }) => name));
  const names = new Map<string, string>();
  for (const { name } of source.logicalVolumes) {
    const [, stem, rest = ""] = /^(snapshot|lvol)\d+(_pmspare)?$/.exec(name) ?? [];
    if (!stem || (stem === "lvol" && rest === "") || !target.logicalVolumes.some((other) => other.name === name))
      continue;
    for (let number = 0; !names.has(name); number++)
      if (!taken.has(`${stem}${number}${rest}`)) names.set(name, `${stem}${number}${rest}`);
    taken.add(names.get(name)!);
  }
  return renameVolumes(source, names);
}

/** A group has one spare for the metadata of its pools: the larger one stays. */
function withoutSecondSpare(
  target: VolumeGroup,
  source: VolumeGroup,
): { kept: readonly LogicalVolume[]; added: readonly LogicalVolume[] } {
  const spareOf = (group: VolumeGroup) => group.logicalVolumes.find(({ name }) => name.endsWith("_pmspare"));
  const [a, b] = [spareOf(target), spareOf(source)];
  const smaller = a && b ? (extentCount(a) < extentCount(b) ? a : b) : null;
  const without = (group: VolumeGroup) => group.logicalVolumes.filter((volume) => volume !== smaller);
  return { kept: without(target), added: without(source) };
}
