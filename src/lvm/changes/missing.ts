/**
 * Groups some of whose physical volumes are away. Pure.
 *
 * A change that is made meanwhile marks them MISSING: what comes back later holds old contents, and counts as missing until
 * `vgextend --restoremissing` says otherwise, or by itself where no volume lies on it. Without the change it just comes back.
 */
import { DiskError } from "../../errors.js";
import { usedRuns, volumesBelow } from "../check-group.js";
import {
  type Area,
  isMarkedMissing,
  isVisible,
  type LogicalVolume,
  type PhysicalVolume,
  type Segment,
  type VolumeGroup,
} from "../metadata.js";
import { volumesAbove, volumeTree } from "./dependents.js";
import type { GroupPlan } from "./plan.js";

/** Whatever stands for a physical volume's device; null: it is not there. */
type Members = ReadonlyMap<string, unknown>;

/** Without a device, or with one whose contents are old. */
export function missingPvs({ group, members }: { group: VolumeGroup; members: Members }): PhysicalVolume[] {
  return group.physicalVolumes.filter((pv) => !members.get(pv.name) || isMarkedMissing(pv));
}

/** The group as it is written while volumes are away: marks those, and unmarks what is back and empty. */
export function markMissing(group: VolumeGroup, members: Members): VolumeGroup {
  if (group.physicalVolumes.every((pv) => members.get(pv.name) && !isMarkedMissing(pv))) return group;
  const runs = usedRuns(group);
  const physicalVolumes = group.physicalVolumes.map((pv) => {
    if (!members.get(pv.name)) return isMarkedMissing(pv) ? pv : { ...pv, flags: [...pv.flags, "MISSING"] };
    return runs.get(pv.name)?.length === 0 ? unmarked(pv) : pv;
  });
  return { ...group, physicalVolumes };
}

function unmarked(pv: PhysicalVolume): PhysicalVolume {
  const without = (names: readonly string[]) => names.filter((name) => name !== "MISSING");
  return isMarkedMissing(pv) ? { ...pv, flags: without(pv.flags), status: without(pv.status) } : pv;
}

/** What is back is used again, with whatever it holds. `names` are local names of volumes that are there. */
export function planRestoreMissing(group: VolumeGroup, names: readonly string[]): GroupPlan {
  const restored = group.physicalVolumes.filter((pv) => names.includes(pv.name) && isMarkedMissing(pv));
  if (restored.length === 0)
    throw new DiskError("DENIED", `No PV has been restored: it was not missing in VG ${group.name}`);
  const physicalVolumes = group.physicalVolumes.map((pv) => (restored.includes(pv) ? unmarked(pv) : pv));
  return { group: { ...group, physicalVolumes }, steps: [`Volume group "${group.name}" successfully extended`] };
}

export interface RemoveMissingPlan extends GroupPlan {
  /** Volumes that keep a missing one in the group; empty when all are out. */
  readonly partial: readonly string[];
}

/** How many images of a RAID volume may be gone, by its type; others need all of theirs. */
function spareImages({ type, areas, fields }: Segment): number {
  if (/^raid1$|^mirror$/.test(type)) return areas.length - 1;
  if (type.startsWith("raid10")) {
    const copies = fields.find((field) => field.kind === "assign" && field.key === "data_copies");
    return copies?.kind === "assign" && typeof copies.value === "number" ? copies.value - 1 : 1;
  }
  return /^raid[45]/.test(type) ? 1 : type.startsWith("raid6") ? 2 : 0;
}

/**
 * Takes missing volumes out. With `force` whatever lies on them goes: images of RAID volumes that can do without become errors,
 * to be replaced by `lvconvert --repair`; other volumes are removed with all that needs them.
 */
export function planRemoveMissing(
  found: { group: VolumeGroup; members: Members },
  { force = false }: { force?: boolean } = {},
): RemoveMissingPlan {
  const gone = new Set(missingPvs(found).map(({ name }) => name));
  const steps: string[] = [];
  let { group } = found;
  if (force) {
    group = withoutImages(group, gone, steps);
    group = withoutPartial(group, gone, steps);
  }
  const runs = usedRuns(group);
  const partial = partialVolumes(group, gone);
  const physicalVolumes = group.physicalVolumes.filter((pv) => !gone.has(pv.name) || runs.get(pv.name)!.length > 0);
  if (physicalVolumes.length === 0)
    throw new DiskError("DENIED", `Cannot remove the missing volumes of ${group.name}: no other is left`);
  if (partial.length === 0) steps.push(`Wrote out consistent volume group ${group.name}.`);
  return { group: { ...group, physicalVolumes }, steps, partial };
}

/** Visible volumes with some part on a physical one of these. */
export function partialVolumes(group: VolumeGroup, gone: ReadonlySet<string>): string[] {
  const hit = new Set(group.logicalVolumes.filter((volume) => liesOn(volume, gone)).map(({ name }) => name));
  const byName = new Map(group.logicalVolumes.map((volume) => [volume.name, volume]));
  const touches = (name: string, seen: Set<string>): boolean => {
    if (hit.has(name)) return true;
    if (seen.has(name)) return false;
    seen.add(name);
    const volume = byName.get(name);
    return volume ? volumesBelow(volume).some((below) => touches(below, seen)) : false;
  };
  return group.logicalVolumes.filter(isVisible).flatMap(({ name }) => (touches(name, new Set()) ? [name] : []));
}

function liesOn({ segments }: LogicalVolume, pvs: ReadonlySet<string>): boolean {
  const on = (area: Area) => area.kind === "pv" && pvs.has(area.pv);
  return segments.some(({ areas, metadataAreas }) => areas.some(on) || metadataAreas.some(on));
}

/** The images and their metadata that lie on missing volumes, where the others are enough. */
function withoutImages(group: VolumeGroup, gone: ReadonlySet<string>, steps: string[]): VolumeGroup {
  const byName = new Map(group.logicalVolumes.map((volume) => [volume.name, volume]));
  const lost = (area: Area | undefined) => area?.kind === "lv" && liesOn(byName.get(area.lv)!, gone);
  const replaced = new Set<string>();
  for (const { name, segments } of group.logicalVolumes)
    for (const segment of segments) {
      const indices = segment.areas.flatMap((area, i) => (lost(area) || lost(segment.metadataAreas[i]) ? [i] : []));
      if (indices.length === 0 || indices.length > spareImages(segment)) continue;
      for (const i of indices)
        for (const area of [segment.areas[i], segment.metadataAreas[i]]) if (area?.kind === "lv") replaced.add(area.lv);
      steps.push(`WARNING: ${group.name}/${name} is left without ${indices.length} of ${segment.areas.length} images.`);
    }
  const logicalVolumes = group.logicalVolumes.map((volume) =>
    replaced.has(volume.name) ? { ...volume, segments: volume.segments.map(asError) } : volume,
  );
  return { ...group, logicalVolumes };
}

function asError({ start, count, tags }: Segment): Segment {
  return { start, count, tags, type: "error", typeFlags: [], areas: [], metadataAreas: [], fields: [] };
}

function withoutPartial(group: VolumeGroup, gone: ReadonlySet<string>, steps: string[]): VolumeGroup {
  const doomed = new Set(group.logicalVolumes.filter((volume) => liesOn(volume, gone)).map(({ name }) => name));
  for (const name of doomed) {
    for (const above of volumesAbove(group, name)) doomed.add(above.name);
    for (const part of volumeTree(group, name)) doomed.add(part);
  }
  for (const volume of group.logicalVolumes)
    if (doomed.has(volume.name) && isVisible(volume))
      steps.push(
        `WARNING: Removing partial LV ${group.name}/${volume.name}.`,
        `Logical volume "${volume.name}" successfully removed.`,
      );
  return { ...group, logicalVolumes: group.logicalVolumes.filter(({ name }) => !doomed.has(name)) };
}
