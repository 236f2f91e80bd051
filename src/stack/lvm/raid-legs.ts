/** The first bytes of the volumes that RAID volumes and mirrors keep their state on. */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { openVolume } from "../../lvm/activate.js";
import {
  findVolume,
  type LogicalVolume,
  numberField,
  textField,
  type VolumeGroup,
  volumeSize,
} from "../../lvm/metadata.js";
import { BITMAP_HEADER_SIZE, BITMAP_OFFSET } from "../../lvm/raid/layout.js";
import { encodeMirrorLog } from "../../lvm/raid/mirror-log.js";
import { Regions } from "../../lvm/raid/regions.js";
import { encodeBitmapHeader, encodeSuperblock, type LegMetadata, readMetadata } from "../../lvm/raid/superblock.js";
import { setFacts } from "../../lvm/segments/raid.js";

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

/**
 * Legs that join a set get a superblock that says that they lack everything: whoever opens the volume next, we or a kernel, fills
 * them. With every leg new (a volume that was linear) blank ones mean the same: all are copied from the first.
 */
export async function writeNewLegs(
  group: VolumeGroup,
  volume: LogicalVolume,
  legs: readonly number[],
  devices: Devices,
): Promise<void> {
  const [segment] = volume.segments;
  if (!segment || legs.length === 0) return;
  const { facts } = setFacts(group, segment, `${group.name}/${volume.name}`);
  const bitmapBytes = Math.ceil(facts.syncSize / facts.regionSize / 8);
  const found: LegMetadata[] = [];
  for (const [leg, area] of segment.metadataAreas.entries()) {
    if (legs.includes(leg) || area.kind !== "lv") continue;
    const read = await readFrom(group, area.lv, devices, (meta) => readMetadata(meta, bitmapBytes));
    if (typeof read === "object") found.push(read);
  }
  const best = found.reduce<LegMetadata | null>(
    (most, each) => (most && most.superblock.events >= each.superblock.events ? most : each),
    null,
  );
  if (!best && legs.length < segment.areas.length && legs.includes(0))
    throw new DiskError(
      "IO",
      `Cannot replace the first leg of ${group.name}/${volume.name}: the others were never made equal to it`,
    );
  for (const leg of legs) {
    const area = segment.metadataAreas[leg];
    if (area?.kind !== "lv") continue;
    await onVolume(group, area.lv, devices, async (meta) => {
      await meta.zero(0, meta.size);
      if (!best) return;
      const { events, failedDevices, resyncOffset } = best.superblock;
      await meta.write(BITMAP_OFFSET, encodeBitmapHeader(facts, events, 0n));
      if (best.bitmap) await meta.write(BITMAP_OFFSET + BITMAP_HEADER_SIZE, best.bitmap.bits);
      const state = { position: leg, events, failed: failedDevices, recoveryOffset: 0n, resyncOffset };
      await meta.write(0, encodeSuperblock(facts, state));
    });
  }
}

async function readFrom<T>(
  group: VolumeGroup,
  name: string,
  devices: Devices,
  work: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  const device = await openVolume(group, name, devices);
  try {
    return await work(device);
  } finally {
    await device.close();
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
