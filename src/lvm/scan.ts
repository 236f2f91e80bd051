/**
 * From devices to what LVM2 would see on them: physical volumes by their labels, volume groups by the texts in their metadata areas.
 * The newest text of a group counts. Copies that are older or damaged, clones of a volume, missing and outdated ones are named;
 * nothing that bytes on a device say makes a scan fail.
 */
import { byteGranular } from "../block/aligned.js";
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { findLabel, isInUse, type PvLabel } from "./label.js";
import { LABEL_SECTORS, SECTOR } from "./layout.js";
import { isMarkedMissing, type PhysicalVolume, type VolumeGroup } from "./metadata.js";
import { type MetadataArea, readAreaHeader, readText } from "./metadata-area.js";
import { type GroupText, readGroupText } from "./read-group.js";

/** A device on which a physical volume may lie. */
export interface Candidate {
  /** As users name it: `/disks/p2.dsk#p1`. */
  readonly name: string;
  readonly device: BlockDevice;
}

export interface FoundArea extends MetadataArea {
  /** What its text says; null when there is none or it cannot be read. */
  readonly content: GroupText | null;
}

export interface FoundPv {
  readonly name: string;
  /** Takes any byte. */
  readonly device: BlockDevice;
  readonly label: PvLabel;
  readonly areas: readonly FoundArea[];
}

export interface FoundGroup extends GroupText {
  /** By the local name of each physical volume; null: its device is missing. */
  readonly members: ReadonlyMap<string, FoundPv | null>;
  /** Hold metadata of this group from before they were taken out of it. */
  readonly outdated: readonly FoundPv[];
  /** Some member is on two devices at once. */
  readonly duplicates: readonly Duplicate[];
  /** Metadata areas that are older than the group, or damaged; a sentence each. The next change mends them. */
  readonly damage: readonly string[];
}

export interface Duplicate {
  readonly id: string;
  readonly used: string;
  readonly unused: readonly string[];
}

export interface Scan {
  readonly groups: readonly FoundGroup[];
  /** Physical volumes that are in no group. */
  readonly free: readonly FoundPv[];
  readonly duplicates: readonly Duplicate[];
  /** What users should know, a sentence each, in LVM2's words where it has some. */
  readonly warnings: readonly string[];
}

export async function scanDevices(candidates: readonly Candidate[]): Promise<Scan> {
  const warnings: string[] = [];
  const texts = new Map<string, GroupText>();
  const copies: FoundPv[] = [];
  for (const candidate of candidates) {
    const found = await readPv(candidate, texts, warnings);
    if (found) copies.push(found);
  }
  const newest = newestTexts(copies);
  const hints = new Map(
    [...newest.values()].flatMap(({ group }) => group.physicalVolumes.map((pv) => [pv.id, pv.device] as const)),
  );
  const { chosen, duplicates } = chooseCopies(copies, hints);
  for (const { id, used, unused } of duplicates)
    for (const name of unused)
      warnings.push(`WARNING: Not using device ${name} for PV ${id}: it is a duplicate of ${used}.`);
  const owner = claimPvs([...newest.values()], chosen, warnings);
  const groups = [...newest.values()].flatMap((text) => {
    const group = joinGroup(text, chosen, duplicates, owner, warnings);
    return group ? [group] : [];
  });
  const free = [...chosen.values()].filter(({ label }) => !owner.has(label.id));
  for (const { name, label, areas } of free) {
    for (const { problem, offset } of areas)
      if (problem) warnings.push(`WARNING: ${damagedArea(name, offset, problem)}`);
    if (
      isInUse(label) &&
      !groups.some(({ outdated }) => outdated.some((pv) => pv.label.id === label.id)) &&
      areas.length > 0
    )
      warnings.push(`WARNING: PV ${name} is marked in use but no VG was found using it.`);
  }
  return { groups, free, duplicates, warnings };
}

/** The physical volume on a device, or null. */
async function readPv(
  { name, device: given }: Candidate,
  texts: Map<string, GroupText>,
  warnings: string[],
): Promise<FoundPv | null> {
  const device = byteGranular(given);
  const head = new Uint8Array(Math.min(LABEL_SECTORS * SECTOR, device.size));
  await device.read(0, head);
  const { label, problems } = findLabel(head);
  warnings.push(...problems.map((problem) => `WARNING: ${name}: ${problem}.`));
  if (!label) return null;
  const areas: FoundArea[] = [];
  for (const location of label.metadataAreas) areas.push(await readArea(device, location, texts));
  return { name, device, label, areas };
}

async function readArea(
  device: BlockDevice,
  location: PvLabel["metadataAreas"][number],
  texts: Map<string, GroupText>,
): Promise<FoundArea> {
  // A size of zero means to the device's end.
  const size = location.size === 0 ? Math.max(0, device.size - location.offset) : location.size;
  const area = await readAreaHeader(device, { offset: location.offset, size });
  const { committed } = area;
  if (!committed) return { ...area, content: null };
  try {
    const text = await readText(device, area, committed);
    const key = `${committed.crc}:${committed.size}`; // most areas hold the same text
    const content = texts.get(key) ?? readGroupText(text, `LVM2 metadata of ${device.label}`);
    texts.set(key, content);
    return { ...area, content };
  } catch (error) {
    if (!(error instanceof DiskError) || error.code === "IO") throw error;
    return { ...area, content: null, problem: error.message };
  }
}

/** By group id. Of texts with one seqno the first that was read counts. */
function newestTexts(copies: readonly FoundPv[]): Map<string, GroupText> {
  const newest = new Map<string, GroupText>();
  for (const { areas } of copies)
    for (const { content } of areas) {
      if (!content) continue;
      const known = newest.get(content.group.id);
      if (!known || known.group.seqno < content.group.seqno) newest.set(content.group.id, content);
    }
  return newest;
}

/** Of several devices with one id: the one that the metadata names, else the first. */
function chooseCopies(
  copies: readonly FoundPv[],
  hints: ReadonlyMap<string, string>,
): { chosen: Map<string, FoundPv>; duplicates: Duplicate[] } {
  const byId = new Map<string, FoundPv[]>();
  for (const copy of copies) byId.set(copy.label.id, [...(byId.get(copy.label.id) ?? []), copy]);
  const chosen = new Map<string, FoundPv>();
  const duplicates: Duplicate[] = [];
  for (const [id, all] of byId) {
    const used = all.find(({ name }) => name === hints.get(id)) ?? all[0]!;
    chosen.set(id, used);
    const unused = all.filter((copy) => copy !== used).map(({ name }) => name);
    if (unused.length > 0) duplicates.push({ id, used: used.name, unused });
  }
  return { chosen, duplicates };
}

/**
 * Which group each present volume belongs to, by the label's id. While a group is split, merged or given a new id, two texts name a volume
 * for a moment: an exported group yields to one that is not, and a lower seqno to a higher one. That makes one header the point
 * where the change has happened, whatever was written before and after it.
 */
function claimPvs(
  texts: readonly GroupText[],
  chosen: ReadonlyMap<string, FoundPv>,
  warnings: string[],
): Map<string, VolumeGroup> {
  const owner = new Map<string, VolumeGroup>();
  const yields = ({ group }: GroupText) => (group.status.includes("EXPORTED") ? 1 : 0);
  const ranked = texts.toSorted((a, b) => yields(a) - yields(b) || b.group.seqno - a.group.seqno);
  for (const { group } of ranked)
    for (const pv of group.physicalVolumes) {
      const found = deviceOf(group, pv, chosen);
      if (!found) continue;
      const other = owner.get(found.label.id);
      if (!other) owner.set(found.label.id, group);
      else
        warnings.push(
          `WARNING: PV ${found.name} is named by VG ${other.name} and by VG ${group.name}; it is used for ${other.name}.`,
        );
    }
  return owner;
}

/** A cut between a text with a new PV id and its label leaves the old id in the label: the text on the volume itself tells. */
function deviceOf(group: VolumeGroup, pv: PhysicalVolume, chosen: ReadonlyMap<string, FoundPv>): FoundPv | undefined {
  const found = chosen.get(pv.id);
  if (found) return found;
  return [...chosen.values()].find(
    ({ name, label, areas }) =>
      name === pv.device &&
      areas.some(({ content }) => content?.group === group) &&
      !group.physicalVolumes.some(({ id }) => id === label.id),
  );
}

/** Null for a group all of whose volumes belong to another one now. */
function joinGroup(
  { group, header }: GroupText,
  chosen: ReadonlyMap<string, FoundPv>,
  allDuplicates: readonly Duplicate[],
  owner: Map<string, VolumeGroup>,
  warnings: string[],
): FoundGroup | null {
  const devices = group.physicalVolumes.map((pv) => deviceOf(group, pv, chosen));
  const owned = devices.filter((found) => found && owner.get(found.label.id) === group);
  if (owned.length === 0 && devices.some(Boolean)) return null;
  const ids = new Set(group.physicalVolumes.map(({ id }) => id));
  const members = new Map<string, FoundPv | null>();
  for (const [i, pv] of group.physicalVolumes.entries()) {
    const found = owned.includes(devices[i]) ? devices[i]! : null;
    members.set(pv.name, found);
    warnings.push(...memberWarnings(group, pv, found));
  }
  const holders = [...chosen.values()].filter(({ areas }) =>
    areas.some(({ content }) => content?.group.id === group.id),
  );
  const outdated = holders.filter((pv) => !ids.has(pv.label.id) && !owned.includes(pv) && !owner.has(pv.label.id));
  for (const { name, label } of outdated) {
    owner.set(label.id, group);
    warnings.push(
      `WARNING: outdated PV ${name} seqno ${seqnoOn(label.id, holders)} has been removed in current VG ${group.name} seqno ${group.seqno}.`,
      "See vgck --updatemetadata to clear outdated metadata.",
    );
  }
  const damage = [...members.values()].flatMap((pv) => (pv ? damagedAreas(group, pv) : []));
  warnings.push(...damage.map((text) => `WARNING: ${text}`));
  const duplicates = allDuplicates.filter(({ id }) => ids.has(id));
  return { group, header, members, outdated, duplicates, damage };
}

function memberWarnings(group: VolumeGroup, pv: PhysicalVolume, found: FoundPv | null): string[] {
  if (!found) return [`WARNING: Couldn't find device with uuid ${pv.id}.`, missing(group, pv)];
  const warnings: string[] = [];
  if (isMarkedMissing(pv))
    warnings.push(
      `WARNING: VG ${group.name} was previously updated while PV ${found.name} was missing.`,
      `WARNING: VG ${group.name} was missing PV ${found.name} ${pv.id}.`,
    );
  if (found.label.id !== pv.id)
    warnings.push(`WARNING: The label of ${found.name} has the old uuid ${found.label.id} for PV ${pv.id}.`);
  if (pv.deviceSize !== null && found.device.size < pv.deviceSize)
    warnings.push(
      `WARNING: Device ${found.name} has size of ${found.device.size / SECTOR} sectors which is smaller than corresponding PV size of ${pv.deviceSize / SECTOR} sectors. Was device resized?`,
    );
  return warnings;
}

function missing({ name }: VolumeGroup, pv: PhysicalVolume): string {
  const marked = isMarkedMissing(pv) ? ", which is marked missing" : "";
  return `WARNING: VG ${name} is missing PV ${pv.id} (last written to ${pv.device || "[unknown]"})${marked}.`;
}

function seqnoOn(id: string, holders: readonly FoundPv[]): number {
  const seqnos = holders.find(({ label }) => label.id === id)?.areas.map(({ content }) => content?.group.seqno ?? 0);
  return Math.max(0, ...(seqnos ?? []));
}

function damagedArea(name: string, offset: number, problem: string): string {
  return `Metadata area of ${name} at byte ${offset} is damaged: ${problem}.`;
}

/** What keeps a member's areas from holding the text in force. */
function damagedAreas(group: VolumeGroup, { name, areas }: FoundPv): string[] {
  return areas.flatMap(({ problem, content, ignored, offset }) => {
    if (problem) return [damagedArea(name, offset, problem)];
    if (ignored || !content) return [];
    const found = content.group;
    if (found.id !== group.id)
      return [`Metadata area of ${name} at byte ${offset} holds another volume group, ${found.name}.`];
    if (found.seqno < group.seqno)
      return [`ignoring metadata seqno ${found.seqno} on ${name} for seqno ${group.seqno} of VG ${group.name}.`];
    return found === group
      ? []
      : [`Metadata on ${name} differs from that of VG ${group.name} with the same seqno ${found.seqno}.`];
  });
}

/** The group of a name. Throws `NOT_FOUND`, or `DENIED` when several groups have it. */
export function findGroup({ groups }: Pick<Scan, "groups">, name: string): FoundGroup {
  const found = groups.filter(({ group }) => group.name === name);
  if (found.length === 0)
    throw new DiskError("NOT_FOUND", `Volume group "${name}" not found`, { details: { group: name } });
  if (found.length > 1)
    throw new DiskError(
      "DENIED",
      `Cannot use volume group "${name}": ${found.length} groups have this name, with the ids ${found.map(({ group }) => group.id).join(" and ")}; name the devices of one with --devices`,
      { details: { group: name } },
    );
  return found[0]!;
}

/** The open devices of a group's physical volumes, as volumes are opened from; those that are marked missing hold old contents. */
export function devicesOf(
  members: ReadonlyMap<string, FoundPv | null>,
  physicalVolumes: readonly PhysicalVolume[] = [],
): Map<string, BlockDevice | null> {
  const gone = new Set(physicalVolumes.filter(isMarkedMissing).map(({ name }) => name));
  return new Map([...members].map(([name, pv]) => [name, gone.has(name) ? null : (pv?.device ?? null)]));
}
