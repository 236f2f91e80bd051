/** A volume by its name, as a device: `lvm:vg0/root` over the registered devices, `guest.dsk#vg0/root` within one disk. */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { openVolume } from "../../lvm/activate.js";
import { findVolume } from "../../lvm/metadata.js";
import { findGroup, type Scan, scanDevices } from "../../lvm/scan.js";
import type { OpenDiskOptions } from "../disk.js";
import { readDevices } from "./devices.js";
import { lockVolume } from "./locks.js";
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
  try {
    const found = findGroup(scan, groupName);
    const { group, members, duplicates } = found;
    const volume = findVolume(group, volumeName);
    const { paths, writable = false, forceShare = false } = options;
    if (writable && duplicates.length > 0)
      throw new DiskError(
        "DENIED",
        `Cannot open ${JSON.stringify(text)} for writing: volume group ${groupName} has duplicate PV devices ${duplicates.flatMap(({ used, unused }) => [used, ...unused]).join(" ")}`,
      );
    const devices = new Map([...members].map(([pv, member]) => [pv, member?.device ?? null]));
    const opened = openVolume(group, volumeName, devices, {
      writable,
      label: JSON.stringify(text),
      close: () => Promise.resolve(),
    });
    const purpose = `open ${JSON.stringify(text)}${writable ? " for writing" : ""}`;
    const lock =
      paths && !forceShare ? await lockVolume(paths.home, group, volume, writable ? "write" : "read", purpose) : null;
    return closing(opened, async () => {
      await lock?.release();
      await close();
    });
  } catch (error) {
    await close();
    throw error;
  }
}

function closing(device: BlockDevice, after: () => Promise<void>): BlockDevice {
  const close = device.close.bind(device);
  let closed = false;
  device.close = async () => {
    if (closed) return;
    closed = true;
    await close();
    await after();
  };
  return device;
}
