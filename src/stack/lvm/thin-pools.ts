/** Thin pools of a group on open devices: new ones are formatted, and told what the group still has to tell them. */
import type { BlockDevice } from "../../block/device.js";
import { withContext } from "../../lvm/activate.js";
import { hasMessages, withoutMessages } from "../../lvm/changes/thin-volume.js";
import { findVolume, type LogicalVolume, numberField, textField, type VolumeGroup } from "../../lvm/metadata.js";
import { SharedStates } from "../../lvm/shared-states.js";

type Devices = ReadonlyMap<string, BlockDevice | null>;

/** A pool without volumes: its metadata is made before the group is written, so that nobody finds an old one. */
export async function formatPool(group: VolumeGroup, pool: LogicalVolume, devices: Devices): Promise<void> {
  const { ThinMetadata } = await import("../../lvm/thin/metadata.js");
  const segment = pool.segments[0]!;
  const dataBlockSize = numberField(segment, "chunk_size")!;
  await withContext(group, pool.name, devices, { writable: true, states: new SharedStates() }, async ({ open }) => {
    const device = await open(textField(segment, "metadata")!);
    const bytes = pool.segments.reduce((sum, { count }) => sum + count, 0) * group.extentSize;
    await ThinMetadata.format(device, { dataBlockSize, dataBlocks: Math.floor(bytes / (dataBlockSize * 512)) });
  });
}

/**
 * The group as it is when its pools have been told everything, or null when there is nothing to tell. The caller has the pools to itself,
 * and has written the group with its messages.
 */
export async function tellPools(group: VolumeGroup, devices: Devices): Promise<VolumeGroup | null> {
  const pools = group.logicalVolumes.filter(hasMessages);
  if (pools.length === 0) return null;
  const { openPool } = await import("../../lvm/segments/thin.js");
  for (const { name } of pools)
    await withContext(group, name, devices, { writable: true, states: new SharedStates() }, async (context) => {
      const pool = await openPool(context, findVolume(group, name)); // which tells it
      await pool.close();
    });
  return withoutMessages(group);
}
