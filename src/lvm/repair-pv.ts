/**
 * A physical volume's label, metadata headers and text made anew (`pvck --repair`). The plan is pure.
 *
 * The text goes behind the last one that is found in the ring, so no old text is written over as long as there is room. Then, with a
 * flush between: header, label. A cut leaves less that is damaged than before, and the same command finishes.
 */
import type { BlockDevice } from "../block/device.js";
import { alignDown } from "../bytes/align.js";
import { DiskError } from "../errors.js";
import { checkGroup } from "./check-group.js";
import { areasOf, clamp, type PvSettings, readHead } from "./dump.js";
import { parseId } from "./id.js";
import { encodeLabel, findLabel, IN_USE, type PvLabel } from "./label.js";
import { SECTOR } from "./layout.js";
import { isMarkedMissing, type PhysicalVolume, type VolumeGroup } from "./metadata.js";
import {
  type AreaWrite,
  encodeText,
  type MetadataArea,
  planHeader,
  planText,
  readAreaHeader,
  readText,
} from "./metadata-area.js";
import { readGroupText } from "./read-group.js";
import type { Scan } from "./scan.js";
import { searchTexts } from "./search-texts.js";

export interface RepairSettings extends PvSettings {
  /** Which volume of the group it is, with hyphens or without. */
  readonly pv_uuid?: string;
}

/** What of a physical volume is to be mended; default: what is damaged. */
export type RepairType = "label_header" | "pv_header" | "metadata";

export interface RepairSource {
  readonly text: string;
  /** Where it comes from, for people. */
  readonly from: string;
}

export interface RepairRequest {
  readonly type?: RepairType;
  readonly settings?: RepairSettings;
  /** Text to write. */
  readonly source: RepairSource;
  /** As the group calls its devices. */
  readonly name: string;
}

export interface RepairPlan {
  /** A sentence each; empty when nothing is damaged. */
  readonly lines: readonly string[];
  /** In this order, with a flush after each list. */
  readonly writes: readonly (readonly AreaWrite[])[];
}

/** What the disk itself has of texts, the best first: those in force, then what a search finds; newest first. */
export async function ownTexts(device: BlockDevice, settings: RepairSettings): Promise<RepairSource[]> {
  const { label } = findLabel(await readHead(device));
  const inForce: RepairSource[] = [];
  const found: { seqno: number; source: RepairSource }[] = [];
  for (const place of areasOf(label, settings).map((area) => clamp(area, device.size))) {
    const area = await readAreaHeader(device, place);
    const { committed } = area;
    if (committed && settings.metadata_offset === undefined) {
      const text = await readText(device, area, committed).catch(() => null);
      if (text) inForce.push({ text, from: `the metadata area at byte ${area.offset}` });
    }
    for (const { at, text, seqno, name } of await searchTexts(device, place))
      if (at === (settings.metadata_offset ?? at))
        found.push({
          seqno: Number(seqno) || 0,
          source: { text, from: `byte ${at} (VG ${name}, seqno ${seqno})` },
        });
  }
  return [...inForce, ...found.sort((a, b) => b.seqno - a.seqno).map(({ source }) => source)].filter(({ text }) =>
    isSound(text),
  );
}

/** The text in force of a group that is found on other devices and has this one, by its id or its name. */
export async function otherText(
  { groups }: Pick<Scan, "groups">,
  label: PvLabel | null,
  name: string,
): Promise<RepairSource | null> {
  for (const { group, members } of groups) {
    const isOurs = ({ id, device }: PhysicalVolume) => (label ? id === label.id : device === name);
    if (!group.physicalVolumes.some(isOurs)) continue;
    for (const pv of members.values())
      for (const area of pv && pv.name !== name ? pv.areas : [])
        if (area.content?.group === group && area.committed)
          return { text: await readText(pv!.device, area, area.committed), from: pv!.name };
  }
  return null;
}

function isSound(text: string): boolean {
  try {
    return checkGroup(readGroupText(text, "a text").group).length === 0;
  } catch (error) {
    if (error instanceof DiskError) return false;
    throw error;
  }
}

export async function planRepair(device: BlockDevice, request: RepairRequest): Promise<RepairPlan> {
  const { type, settings = {}, source, name } = request;
  const { group } = readGroupText(source.text, source.from);
  const [problem] = checkGroup(group);
  if (problem) throw new DiskError("CORRUPT", `Cannot repair ${device.label} with ${source.from}: ${problem}`);
  const old = findLabel(await readHead(device)).label;
  const entry = findEntry(group, { label: old, settings, name, size: device.size });
  const lines: string[] = [];
  const writes: AreaWrite[][] = [];
  const label = type === "metadata" ? old : await makeLabel(device, entry, old, settings);
  if (!label)
    throw new DiskError(
      "CORRUPT",
      `Cannot repair the metadata of ${device.label}: its label is damaged, repair that first`,
    );
  const areas: MetadataArea[] = [];
  for (const area of label.metadataAreas) areas.push(await readAreaHeader(device, clamp(area, device.size)));
  if (type === undefined || type === "metadata")
    for (const area of areas) {
      const planned = await planArea(device, area, source, group);
      if (!planned) continue;
      lines.push(...planned.lines);
      writes.push(...planned.writes);
    }
  const sector = encodeLabel(label);
  const isSame = old !== null && Buffer.compare(encodeLabel(old), sector) === 0;
  if (type !== "metadata" && !isSame) {
    lines.push(`Writing label header and pv_header for ${label.id} at byte ${label.sector * SECTOR}`);
    writes.push([{ offset: label.sector * SECTOR, data: sector }]);
  }
  return { lines, writes };
}

/** Carries a plan out. */
export async function runRepair(device: BlockDevice, { writes }: RepairPlan): Promise<void> {
  for (const list of writes) {
    for (const { offset, data } of list) await device.write(offset, data);
    await device.flush();
  }
}

interface Clues {
  readonly label: PvLabel | null;
  readonly settings: RepairSettings;
  readonly name: string;
  readonly size: number;
}

/** Which of the group's volumes this is: by what the user says, the label, the device's name, or because no other has its size. */
function findEntry({ name, physicalVolumes }: VolumeGroup, clues: Clues): PhysicalVolume {
  const wanted = clues.settings.pv_uuid ?? clues.label?.id;
  if (wanted !== undefined) {
    const found = physicalVolumes.find(({ id }) => parseId(id) === parseId(wanted));
    if (found) return found;
    throw new DiskError("NOT_FOUND", `Cannot repair it as a part of VG ${name}: that has no PV ${wanted}`);
  }
  const ways = [
    physicalVolumes.filter(({ device }) => device === clues.name),
    physicalVolumes.filter(({ deviceSize }) => deviceSize === clues.size),
    physicalVolumes,
  ];
  const only = ways.find((list) => list.length === 1)?.[0];
  if (only && !isMarkedMissing(only)) return only;
  throw new DiskError(
    "DENIED",
    `Cannot tell which PV of VG ${name} this is, allowed with --settings pv_uuid= one of ${physicalVolumes.map(({ id, device }) => `${id} (${device})`).join(", ")}`,
    { details: { group: name } },
  );
}

/** The label as it has to be: what a valid old one says beside the ids and places, is kept. */
async function makeLabel(
  device: BlockDevice,
  { id, deviceSize, peStart, rest }: PhysicalVolume,
  old: PvLabel | null,
  settings: RepairSettings,
): Promise<PvLabel> {
  if (old && old.id === id && old.dataAreas[0]?.offset === peStart && Object.keys(settings).every(isNoPlace)) {
    return { ...old, extension: { version: 2, flags: (old.extension?.flags ?? 0) | IN_USE } };
  }
  const number = (key: string) => {
    const entry = rest.find((field) => field.kind === "assign" && field.key === key);
    return entry?.kind === "assign" && typeof entry.value === "number" ? entry.value * SECTOR : 0;
  };
  const [bootStart, bootSize] = [number("ba_start"), number("ba_size")];
  const end = bootStart > 0 ? Math.min(bootStart, peStart) : peStart;
  const first = settings.mda_offset ?? 4096;
  const firstSize = settings.mda_size ?? end - first;
  const second = settings.mda2_offset ?? (await secondArea(device));
  const metadataAreas = [
    ...(firstSize >= 8 * SECTOR ? [{ offset: first, size: firstSize }] : []),
    ...(second === null ? [] : [{ offset: second, size: settings.mda2_size ?? device.size - second }]),
  ];
  return {
    sector: old?.sector ?? 1,
    id,
    deviceSize: deviceSize ?? device.size,
    dataAreas: [{ offset: peStart, size: 0 }],
    metadataAreas,
    bootAreas: bootStart > 0 ? [{ offset: bootStart, size: bootSize }] : [],
    extension: { version: 2, flags: IN_USE },
  };
}

const isNoPlace = (key: string) => key === "pv_uuid" || key === "metadata_offset";

/** LVM2 puts a second area into the last whole mebibyte. */
async function secondArea(device: BlockDevice): Promise<number | null> {
  const MIB = 1 << 20;
  const offset = alignDown(device.size - (MIB - 4096), MIB);
  if (offset < 2 * MIB) return null;
  const area = await readAreaHeader(device, { offset, size: device.size - offset });
  return area.header ? offset : null;
}

/** Null where the area has this text already. */
async function planArea(
  device: BlockDevice,
  area: MetadataArea,
  { text, from }: RepairSource,
  { name, seqno }: VolumeGroup,
): Promise<{ lines: string[]; writes: AreaWrite[][] } | null> {
  if (area.ignored) return null;
  if (area.offset > device.size - area.size || area.size < 8 * SECTOR || area.offset % SECTOR !== 0)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot repair the metadata area at byte ${area.offset} with ${area.size} bytes: it does not fit ${device.label}, allowed with --settings mda_offset= mda_size=`,
    );
  const held = area.committed ? await readText(device, area, area.committed).catch(() => null) : null;
  if (held === text) return null;
  const found = (await searchTexts(device, area)).sort((a, b) => Number(b.seqno) - Number(a.seqno));
  const behind = area.committed ?? found[0] ?? null;
  const { location, writes } = planText({ ...area, committed: behind }, encodeText(text));
  return {
    lines: [
      `Writing metadata at ${area.offset + location.offset} length ${location.size} crc 0x${location.crc.toString(16)}, VG ${name} seqno ${seqno} from ${from}`,
      `Writing mda_header at ${area.offset}`,
    ],
    writes: [writes, [planHeader(area, location, null)]],
  };
}
