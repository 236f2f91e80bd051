/**
 * The devices on which volume groups are looked for: XVD_HOME/lvm/devices, one line for each in the form of LVM2's devices file.
 * Names are absolute; filled by pvcreate and by lvmdevices.
 */
import { dirname, join } from "node:path";
import type { Candidate, Scan } from "../../lvm/scan.js";
import { canonicalPath, mayBeDisk } from "../../os/paths.js";
import { makeFolder, readTextFile, writeTextFile } from "../../os/state-files.js";
import { parseDiskName } from "../disk-name.js";

export interface RegisteredDevice {
  /** As `canonicalName` makes it. */
  readonly name: string;
  /** Without hyphens; null when none was known. */
  readonly pvid: string | null;
}

export function devicesPath(home: string): string {
  return join(home, "lvm", "devices");
}

export function readDevices(home: string): RegisteredDevice[] {
  const text = Buffer.from(readTextFile(devicesPath(home)) ?? "", "latin1").toString("utf8");
  const devices: RegisteredDevice[] = [];
  for (const line of text.split("\n")) {
    const [, name, pvid] = /^IDTYPE=devname IDNAME=(.+) DEVNAME=\1 PVID=(\S+)$/.exec(line) ?? [];
    if (name && pvid) devices.push({ name, pvid: pvid === "." ? null : pvid });
  }
  return devices;
}

export function addDevices(home: string, added: readonly RegisteredDevice[]): void {
  const names = new Set(added.map(({ name }) => name));
  const kept = readDevices(home).filter(({ name }) => !names.has(name));
  writeDevices(home, [...kept, ...added]);
}

/** Returns how many of them were there. */
export function removeDevices(home: string, names: readonly string[]): number {
  const present = readDevices(home);
  const kept = present.filter(({ name }) => !names.includes(name));
  if (kept.length < present.length) writeDevices(home, kept);
  return present.length - kept.length;
}

function writeDevices(home: string, devices: readonly RegisteredDevice[]): void {
  makeFolder(dirname(devicesPath(home)));
  const lines = devices.map(({ name, pvid }) => `IDTYPE=devname IDNAME=${name} DEVNAME=${name} PVID=${pvid ?? "."}`);
  writeTextFile(
    devicesPath(home),
    ["# Devices for xvd's volume groups; 'xvd lvmdevices' changes it.", ...lines, ""].join("\n"),
  );
}

/** One name for each device: absolute, links followed, its part behind it. Network disks keep the name they have. */
export function canonicalName(disk: string): string {
  const { base } = parseDiskName(disk, mayBeDisk);
  return base.kind === "file" ? canonicalPath(base.path) + disk.slice(base.path.length) : disk;
}

/** Registered devices that can be opened and on which the label that they had is not found any more; a sentence each. */
export function unlabelled(
  home: string,
  candidates: readonly Pick<Candidate, "name">[],
  { groups, free, duplicates }: Scan,
): string[] {
  const open = new Set(candidates.map(({ name }) => name));
  const inGroups = groups.flatMap(({ members, outdated }) => [...members.values(), ...outdated]);
  const labelled = new Set([...inGroups, ...free].map((pv) => pv?.name));
  for (const { unused } of duplicates) for (const name of unused) labelled.add(name);
  return readDevices(home)
    .filter(({ name, pvid }) => pvid !== null && open.has(name) && !labelled.has(name))
    .map(({ name, pvid }) => `Device ${name} is registered with PVID ${pvid}, and no valid label is on it.`);
}
