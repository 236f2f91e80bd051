/** What reports tell of pools and thin volumes: how full they are. Read from committed metadata, also while somebody else uses the pool. */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { withContext } from "../activate.js";
import { thinVolumes } from "../changes/thin-volume.js";
import { type LogicalVolume, numberField, textField, type VolumeGroup, volumeSize } from "../metadata.js";
import { SharedStates } from "../shared-states.js";
import { ThinMetadata } from "./metadata.js";
import { metadataReserve } from "./pool.js";

export interface ThinUsage {
  /** Shares from 0 to 100; not there when they are not known. */
  readonly dataPercent?: number;
  /** Of a pool. */
  readonly metadataPercent?: number;
  readonly health?: "failed" | "out_of_data" | "metadata_read_only";
  readonly needsCheck?: boolean;
}

/** By the volume's name; all pools of a group and their volumes. */
export async function readThinUsage(
  group: VolumeGroup,
  devices: ReadonlyMap<string, BlockDevice | null>,
): Promise<Map<string, ThinUsage>> {
  const usage = new Map<string, ThinUsage>();
  for (const pool of group.logicalVolumes) {
    if (pool.segments[0]?.type !== "thin-pool") continue;
    try {
      await withContext(group, pool.name, devices, { states: new SharedStates() }, async ({ open }) => {
        const device = await open(textField(pool.segments[0]!, "metadata")!);
        await readPool(group, pool, await ThinMetadata.open(device), usage);
      });
    } catch (error) {
      // Not formatted, damaged, missing, or changed while it was read: then nothing is told.
      if (!(error instanceof DiskError)) throw error;
      if (error.code === "CORRUPT" && !usage.has(pool.name))
        usage.set(pool.name, { health: "failed", needsCheck: true });
    }
  }
  return usage;
}

async function readPool(
  group: VolumeGroup,
  pool: LogicalVolume,
  metadata: ThinMetadata,
  usage: Map<string, ThinUsage>,
): Promise<void> {
  const { data, needsCheck } = metadata;
  const { space } = metadata.blocks;
  const reserve = metadataReserve(space.size);
  usage.set(pool.name, {
    dataPercent: percent(data.allocated, data.size),
    metadataPercent: percent(Math.min(space.size, space.allocated + reserve), space.size),
    needsCheck,
    ...(needsCheck || space.free < reserve
      ? { health: "metadata_read_only" }
      : data.free === 0
        ? { health: "out_of_data" }
        : {}),
  });
  for (const volume of thinVolumes(group, pool.name)) {
    const id = numberField(volume.segments[0]!, "device_id");
    if (id === null || !(await metadata.hasDevice(id))) continue;
    const { details } = await metadata.device(id);
    const used = details.mappedBlocks * metadata.dataBlockSize * 512;
    usage.set(volume.name, { dataPercent: percent(used, volumeSize(group, volume)) });
  }
}

function percent(used: number, total: number): number {
  return total > 0 ? Math.min(100, (used * 100) / total) : 0;
}
