/**
 * What is wrong with what lies on a raw disk: its partition table, LVM2's metadata, the superblocks of file systems, also those in
 * volumes that lie on this disk alone. Nothing is written, and damage never makes the check fail.
 */
import { byteGranular } from "../block/aligned.js";
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { checkSuperblock } from "../filesystems/check.js";
import { identifyFilesystem } from "../filesystems/identify.js";
import { openVolume } from "../lvm/activate.js";
import { missingPvs } from "../lvm/changes/missing.js";
import { checkFound } from "../lvm/check-found.js";
import { checkGroup } from "../lvm/check-group.js";
import { checkPools } from "../lvm/check-pools.js";
import { holdsData } from "../lvm/metadata.js";
import { readAreaHeader } from "../lvm/metadata-area.js";
import { devicesOf, type FoundGroup, type FoundPv, type Scan, scanDevices } from "../lvm/scan.js";
import { DEFAULT_AREA, searchTexts } from "../lvm/search-texts.js";
import { openPartition, type PartitionTable, readPartitionTable } from "../partitions/table.js";
import { withPartitions } from "./lvm/session.js";

export interface ContentFinding {
  /** `damage`: something contradicts itself or is gone; `note`: unusual, and nothing is lost by it. */
  readonly level: "damage" | "note";
  readonly what: "partition table" | "lvm" | "filesystem";
  /** `disk`, `p2`, `vg0/root`. */
  readonly where: string;
  readonly message: string;
}

/** `name` is what users call the disk. */
export async function checkContents(device: BlockDevice, name: string): Promise<ContentFinding[]> {
  const findings: ContentFinding[] = [];
  const table = await checkTable(device, findings);
  const candidates = await withPartitions(name, device);
  const scan = await scanDevices(candidates);
  findings.push(...checkVolumeGroups(scan));
  const members = new Set(pvsOf(scan).map((pv) => pv.name));
  const isPlain = (part: string) => !members.has(part);
  const checkPlain = async (part: BlockDevice, where: string) =>
    findings.push(...(await superblock(part, where)), ...(await lostLabel(part, where)));
  if (table) {
    for (const { number, kind, offset, size } of table.partitions)
      if (kind !== "extended" && offset <= device.size - size && isPlain(`${name}#p${number}`))
        await checkPlain(openPartition(device, table, number), `p${number}`);
  } else if (isPlain(name)) await checkPlain(device, "disk");
  for (const found of scan.groups) findings.push(...(await checkVolumes(found)));
  return findings;
}

/** More than anybody has on one disk; a hostile text may name any number. */
const MAX_VOLUMES = 512;

/** Each volume that can be opened from this disk alone, and what lies on it. */
async function checkVolumes(found: FoundGroup): Promise<ContentFinding[]> {
  const { group } = found;
  if (missingPvs(found).length > 0 || checkGroup(group).length > 0) return [];
  const findings: ContentFinding[] = [];
  for (const { level, message } of await checkPools(found))
    findings.push({ level, what: "lvm", where: group.name, message });
  for (const { name } of group.logicalVolumes.filter(holdsData).slice(0, MAX_VOLUMES)) {
    const where = `${group.name}/${name}`;
    try {
      const volume = await openVolume(group, name, devicesOf(found.members));
      try {
        findings.push(...(await superblock(volume, where)));
      } finally {
        await volume.close();
      }
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      const level = error.code === "UNSUPPORTED" ? "note" : "damage";
      findings.push({ level, what: "lvm", where, message: error.message });
    }
  }
  return findings;
}

async function checkTable(device: BlockDevice, findings: ContentFinding[]): Promise<PartitionTable | null> {
  const add = (level: "damage" | "note", message: string) =>
    findings.push({ level, what: "partition table", where: "disk", message });
  try {
    const table = await readPartitionTable(device);
    for (const { level, message } of table?.problems ?? []) add(level, message);
    return table;
  } catch (error) {
    if (!(error instanceof DiskError) || error.code !== "CORRUPT") throw error;
    add("damage", error.message);
    return null;
  }
}

function pvsOf({ groups, free }: Scan): FoundPv[] {
  const inGroups = ({ members, outdated }: FoundGroup) => [...members.values(), ...outdated];
  return [...groups.flatMap(inGroups), ...free].filter((pv) => pv !== null);
}

/** Volumes that lie elsewhere are no damage of this disk. */
function checkVolumeGroups(scan: Scan): ContentFinding[] {
  const elsewhere = /Couldn't find device|is missing PV/;
  const findings = scan.warnings
    .filter((text) => text.startsWith("WARNING: "))
    .map((text): ContentFinding => {
      const level = elsewhere.test(text) ? "note" : "damage";
      return { level, what: "lvm", where: "disk", message: text.replace(/^WARNING: /, "").replace(/\.$/, "") };
    });
  for (const found of scan.groups)
    for (const { level, message } of checkFound(found))
      findings.push({ level, what: "lvm", where: found.group.name, message });
  return findings;
}

async function superblock(device: BlockDevice, where: string): Promise<ContentFinding[]> {
  return (await checkSuperblock(device)).map((problem) => ({ ...problem, what: "filesystem" as const, where }));
}

/** Metadata of a group without the label that leads to it. After pvremove and vgremove the header is good and says that there is none. */
async function lostLabel(device: BlockDevice, where: string): Promise<ContentFinding[]> {
  const bytes = byteGranular(device);
  if (device.size <= DEFAULT_AREA.offset + DEFAULT_AREA.size) return [];
  const { problem, committed } = await readAreaHeader(bytes, DEFAULT_AREA);
  if (!problem && !committed) return [];
  const found = (await searchTexts(bytes, DEFAULT_AREA)).toSorted((a, b) => Number(b.seqno) - Number(a.seqno))[0];
  if (!found || (await identifyFilesystem(bytes))) return []; // long since used for something else
  const message = `there is no label, metadata of VG ${found.name} (seqno ${found.seqno}) is left at byte ${found.at}: 'xvd pvck --repair' makes a label of it`;
  return [{ level: "damage", what: "lvm", where, message }];
}
