/** A volume by its name, as a device: `lvm:vg0/root` over the registered devices, `guest.dsk#vg0/root` within one disk. */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { openVolume } from "../../lvm/activate.js";
import { findVolume, type LogicalVolume } from "../../lvm/metadata.js";
import { devicesOf, type FoundGroup, findGroup, type Scan, scanDevices } from "../../lvm/scan.js";
import { SharedStates } from "../../lvm/shared-states.js";
import type { OpenDiskOptions } from "../disk.js";
import { readDevices } from "./devices.js";
import { type HeldLock, lockUse, statesOf } from "./locks.js";
import { type OpenNamed, openSessionBy, withPartitions } from "./session.js";

export interface VolumeName {
  readonly group: string;
  readonly volume: string;
}

/** `text` is the name as the user gave it, for messages. Closing the device closes all beneath. */
export async function openRegisteredVolume(
  open: OpenNamed,
  text: string,
  name: VolumeName,
  options: OpenDiskOptions,
): Promise<BlockDevice> {
  const { paths, writable = false, forceShare = false, domainName } = options;
  if (!paths) throw new TypeError(`Cannot open ${text}: paths are needed for volumes of registered devices`);
  const names = readDevices(paths.home).map((device) => device.name);
  if (names.length === 0)
    throw new DiskError(
      "NOT_FOUND",
      `Cannot open ${JSON.stringify(text)}: no devices are registered, 'xvd lvmdevices --adddev' adds one`,
    );
  const session = await openSessionBy(open, names, {
    paths,
    writable,
    locked: writable || !forceShare,
    ...(domainName ? { domainName } : {}),
  });
  return openFrom(text, name, session.scan, options, () => session.close());
}

/** On a disk that is open, and its partitions. Closing the volume closes the disk. */
export async function openVolumeOn(
  text: string,
  name: VolumeName,
  whole: BlockDevice,
  options: OpenDiskOptions,
): Promise<BlockDevice> {
  const base = text.slice(0, text.lastIndexOf("#"));
  const scan = await scanDevices(await withPartitions(base, whole));
  return openFrom(text, name, scan, options, () => whole.close());
}

async function openFrom(
  text: string,
  { group: groupName, volume: volumeName }: VolumeName,
  scan: Scan,
  options: OpenDiskOptions,
  close: () => Promise<void>,
): Promise<BlockDevice> {
  const { paths, writable = false, forceShare = false, keptVolume = null } = options;
  const quoted = JSON.stringify(text);
  let kept = keptVolume;
  let found: FoundGroup;
  let volume: LogicalVolume;
  try {
    [found, volume] = keptVolume ? findKept(text, keptVolume, scan) : findNamed(groupName, volumeName, scan);
    if (writable && found.duplicates.length > 0)
      throw new DiskError(
        "DENIED",
        `Cannot open ${quoted} for writing: volume group ${groupName} has duplicate PV devices ${found.duplicates.flatMap(({ used, unused }) => [used, ...unused]).join(" ")}`,
      );
    const purpose = `open ${quoted}${writable ? " for writing" : ""}`;
    if (paths && !forceShare && !kept) {
      const lock = await lockUse(paths.home, found.group, volume, writable ? "write" : "read", purpose);
      kept = { groupId: found.group.id, volumeId: volume.id, lock };
    }
  } catch (error) {
    await close();
    throw error;
  }
  try {
    const device = await openVolume(found.group, volume.name, devicesOf(found.members, found.group.physicalVolumes), {
      writable,
      label: quoted,
      states: paths && !forceShare ? statesOf(paths.home) : new SharedStates(),
      ...(options.warn ? { warn: options.warn } : {}),
      close,
    });
    return releasing(device, kept);
  } catch (error) {
    if (!keptVolume) await kept?.lock.release(); // one that was brought along stays its owner's
    throw error;
  }
}

function findNamed(group: string, volume: string, scan: Scan): [FoundGroup, LogicalVolume] {
  const found = findGroup(scan, group);
  return [found, findVolume(found.group, volume)];
}

function findKept(text: string, { groupId, volumeId }: KeptVolume, { groups }: Scan): [FoundGroup, LogicalVolume] {
  for (const found of groups)
    for (const volume of found.group.logicalVolumes)
      if (found.group.id === groupId && volume.id === volumeId) return [found, volume];
  throw new DiskError("NOT_FOUND", `Cannot open ${JSON.stringify(text)} again: its volume is not there any more`);
}

/** An open volume's lock, kept while the volume is opened anew: it is that volume, whatever it is called by then. */
export interface KeptVolume {
  readonly groupId: string;
  readonly volumeId: string;
  readonly lock: HeldLock;
}

const KEPT = new WeakMap<BlockDevice, KeptVolume>();

/** Takes the lock off an open volume: closing it does not free the volume any more. Null for what is none. */
export function keepVolume(device: BlockDevice): KeptVolume | null {
  const kept = KEPT.get(device) ?? null;
  KEPT.delete(device);
  return kept;
}

/** Of an open volume; null for what is none. */
export function volumeIds(device: BlockDevice): Pick<KeptVolume, "groupId" | "volumeId"> | null {
  return KEPT.get(device) ?? null;
}

/** The volume is free when it is closed, also while others keep what it shared with them. */
function releasing(device: BlockDevice, kept: KeptVolume | null): BlockDevice {
  if (!kept) return device;
  KEPT.set(device, kept);
  const close = device.close.bind(device);
  device.close = async () => {
    try {
      await close();
    } finally {
      await keepVolume(device)?.lock.release();
    }
  };
  return device;
}
