/** A volume by its name, as a device: `lvm:vg0/root` over the registered devices, `guest.dsk#vg0/root` within one disk. */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { openVolume } from "../../lvm/activate.js";
import { findVolume } from "../../lvm/metadata.js";
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
  const { paths, writable = false, forceShare = false } = options;
  const quoted = JSON.stringify(text);
  let lock: HeldLock | null = null;
  let found: FoundGroup;
  try {
    found = findGroup(scan, groupName);
    const volume = findVolume(found.group, volumeName);
    if (writable && found.duplicates.length > 0)
      throw new DiskError(
        "DENIED",
        `Cannot open ${quoted} for writing: volume group ${groupName} has duplicate PV devices ${found.duplicates.flatMap(({ used, unused }) => [used, ...unused]).join(" ")}`,
      );
    const purpose = `open ${quoted}${writable ? " for writing" : ""}`;
    if (paths && !forceShare)
      lock = await lockUse(paths.home, found.group, volume, writable ? "write" : "read", purpose);
  } catch (error) {
    await close();
    throw error;
  }
  try {
    const device = await openVolume(found.group, volumeName, devicesOf(found.members, found.group.physicalVolumes), {
      writable,
      label: quoted,
      states: paths && !forceShare ? statesOf(paths.home) : new SharedStates(),
      ...(options.warn ? { warn: options.warn } : {}),
      close,
    });
    return releasing(device, lock);
  } catch (error) {
    await lock?.release();
    throw error;
  }
}

/** The volume is free when it is closed, also while others keep what it shared with them. */
function releasing(device: BlockDevice, lock: HeldLock | null): BlockDevice {
  const close = device.close.bind(device);
  device.close = async () => {
    try {
      await close();
    } finally {
      await lock?.release();
      lock = null;
    }
  };
  return device;
}
