/** The first bytes of the volumes that RAID volumes and mirrors keep their state on. */
import type { BlockDevice } from "../../block/device.js";
import { openVolume } from "../../lvm/activate.js";
import {
  findVolume,
  type LogicalVolume,
  numberField,
  textField,
  type VolumeGroup,
  volumeSize,
} from "../../lvm/metadata.js";
import { encodeMirrorLog } from "../../lvm/raid/mirror-log.js";
import { Regions } from "../../lvm/raid/regions.js";

type Devices = ReadonlyMap<string, BlockDevice | null>;

/** Whether a volume has legs that are to be made alike. */
export function hasLegVolumes({ segments }: LogicalVolume): boolean {
  return segments.some(({ type }) => type === "mirror" || (type.startsWith("raid") && !type.startsWith("raid0")));
}

/** Old bytes on new metadata volumes would be taken for superblocks: blank ones say that the volume is new. */
export async function blankLegs(group: VolumeGroup, volume: LogicalVolume, devices: Devices): Promise<void> {
  for (const segment of volume.segments) {
    for (const area of segment.metadataAreas)
      if (area.kind === "lv") await onVolume(group, area.lv, devices, (meta) => meta.zero(0, meta.size));
    const log = textField(segment, "mirror_log");
    if (log === null) continue;
    const count = Math.ceil(volumeSize(group, volume) / ((numberField(segment, "region_size") ?? 1) * 512));
    const dirty = volume.status.includes("NOTSYNCED") ? new Regions(count) : Regions.all(count);
    await onVolume(group, log, devices, (device) => device.write(0, encodeMirrorLog(dirty)));
  }
}

async function onVolume(
  group: VolumeGroup,
  name: string,
  devices: Devices,
  work: (device: BlockDevice) => Promise<void>,
): Promise<void> {
  const device = await openVolume(group, findVolume(group, name).name, devices, { writable: true });
  try {
    await work(device);
    await device.flush();
  } finally {
    await device.close();
  }
}
