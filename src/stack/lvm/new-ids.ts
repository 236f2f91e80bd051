/**
 * New identities for the groups on a copied disk: the group, its physical volumes, its volumes and the file systems on them. Names stay,
 * so that a guest finds its volumes. File systems first, then the text, then the labels (lvm/commit.ts tells what a cut leaves).
 */
import { DiskError } from "../../errors.js";
import type { Random } from "../../filesystems/filesystem.js";
import { newFilesystemId } from "../../filesystems/identify.js";
import { openVolume } from "../../lvm/activate.js";
import { missingPvs } from "../../lvm/changes/missing.js";
import { requireChangeable } from "../../lvm/changes/plan.js";
import { planCommit, runCommit } from "../../lvm/commit.js";
import { newId } from "../../lvm/id.js";
import { encodeLabel } from "../../lvm/label.js";
import { SECTOR } from "../../lvm/layout.js";
import { holdsData, type PhysicalVolume, type VolumeGroup } from "../../lvm/metadata.js";
import { type Candidate, devicesOf, type FoundGroup, type FoundPv, scanDevices } from "../../lvm/scan.js";
import type { IdChange } from "../new-ids.js";
import { planImportClone } from "./import-clone.js";

/** `candidates` are the parts of the disk. A group that also lies on other disks keeps its identities, and is told. */
export async function renewGroups(candidates: readonly Candidate[], random: Random): Promise<IdChange[]> {
  const { groups, free } = await scanDevices(candidates);
  const changes: IdChange[] = [];
  for (const found of groups) changes.push(...(await renewGroup(found, random)));
  for (const pv of free) changes.push(await renewLabel(pv, random));
  return changes;
}

async function renewGroup(found: FoundGroup, random: Random): Promise<IdChange[]> {
  const { group, members } = found;
  const why = keptBecause(found);
  if (why !== null) {
    const note = `volume group ${group.name} keeps its identities: ${why}`;
    return [{ what: `VG ${group.name} UUID`, old: group.id, new: null, note }];
  }
  const filesystems: IdChange[] = [];
  for (const { name } of group.logicalVolumes.filter(holdsData))
    filesystems.push(...(await renewVolume(found, name, random)));
  const { group: renewed } = planImportClone(found, { name: group.name, taken: new Set(), newVolumeIds: true }, random);
  const pvs = group.physicalVolumes.map(({ name }) => members.get(name)!);
  const renamed = new Map(pvs.map((pv, i) => [pv, renewed.physicalVolumes[i]!.id]));
  const header = { ...found.header, description: "xvd clone --new-ids" };
  const after = { ...renewed, seqno: group.seqno + 1 };
  await runCommit(planCommit({ group: after, header, members: pvs, removed: [], renamed }));
  return [...groupChanges(group, renewed), ...filesystems];
}

function keptBecause(found: FoundGroup): string | null {
  const missing = missingPvs(found).length;
  if (missing > 0)
    return `${missing} of its physical volumes are not on this disk, 'xvd vgimportclone' takes all of them at once`;
  try {
    requireChangeable(found.group);
    return null;
  } catch (error) {
    if (error instanceof DiskError) return error.message;
    throw error;
  }
}

function groupChanges(before: VolumeGroup, after: VolumeGroup): IdChange[] {
  const pvName = (pv: PhysicalVolume) => /#(p\d+)$/.exec(pv.device)?.[1] ?? pv.name;
  return [
    { what: `VG ${before.name} UUID`, old: before.id, new: after.id },
    ...before.physicalVolumes.map((pv, i) => ({
      what: `${pvName(pv)}: PV UUID`,
      old: pv.id,
      new: after.physicalVolumes[i]!.id,
    })),
    ...before.logicalVolumes.map((volume, i) => ({
      what: `LV ${before.name}/${volume.name} UUID`,
      old: volume.id,
      new: after.logicalVolumes[i]!.id,
    })),
  ];
}

/** The file system on a volume; one on a volume that cannot be written, or that cannot be renewed now, keeps its id. */
async function renewVolume(found: FoundGroup, name: string, random: Random): Promise<IdChange[]> {
  const prefix = `${found.group.name}/${name}: `;
  try {
    const device = await openVolume(found.group, name, devicesOf(found.members), { writable: true });
    try {
      if (!device.writable) return [];
      const change = await newFilesystemId(device, random);
      await device.flush();
      return change ? [{ ...change, what: `${prefix}${change.what}` }] : [];
    } finally {
      await device.close();
    }
  } catch (error) {
    if (!(error instanceof DiskError) || error.code === "IO") throw error;
    return [{ what: `${prefix}file system`, old: "?", new: null, note: error.message }];
  }
}

async function renewLabel({ name, device, label }: FoundPv, random: Random): Promise<IdChange> {
  const id = newId(random);
  await device.write(label.sector * SECTOR, encodeLabel({ ...label, id }));
  return { what: `${/#(p\d+)$/.exec(name)?.[1] ?? "disk"}: PV UUID`, old: label.id, new: id };
}
