/** Changes of volumes that also touch their bytes: a new one is wiped before anybody can see it, a smaller one must not cut off a file system. */
import { DiskError } from "../../errors.js";
import { identifyFilesystem } from "../../filesystems/identify.js";
import { openVolume } from "../../lvm/activate.js";
import type { CreateVolumePlan } from "../../lvm/changes/create-volume.js";
import type { VolumeGroup } from "../../lvm/metadata.js";
import { devicesOf, type FoundGroup } from "../../lvm/scan.js";
import type { GroupChange } from "./change.js";
import { wipeSignatures } from "./pvs.js";
import { blankLegs, hasLegVolumes } from "./raid-legs.js";

/** LVM2 zeroes as much of a new volume. */
const ZEROED = 4096;

export interface WipeOptions {
  /** The first 4 KiB. */
  readonly zero: boolean;
  /** Superblocks of file systems that were on the extents. */
  readonly wipe: boolean;
}

/** The bytes are wiped before the group is written: nobody ever sees the new volume with old contents. */
export function withWiping(plan: CreateVolumePlan, { zero, wipe }: WipeOptions): GroupChange {
  const { volume, group } = plan;
  const hasLegs = hasLegVolumes(volume);
  const hasBytes = hasLegs || volume.segments.some(({ type }) => type === "striped");
  if (!hasBytes || (!zero && !wipe && !hasLegs)) return plan;
  return {
    ...plan,
    async prepare(members) {
      const writable = { ...group, logicalVolumes: group.logicalVolumes.map((other) => withWrite(other, volume.name)) };
      const devices = devicesOf(members);
      if (hasLegs) await blankLegs(writable, volume, devices);
      const device = await openVolume(writable, volume.name, devices, { writable: true });
      try {
        if (zero) await device.zero(0, Math.min(ZEROED, device.size));
        if (wipe && (await identifyFilesystem(device))) await wipeSignatures(device);
        await device.flush();
      } finally {
        await device.close();
      }
    },
  };
}

/** A read-only volume is wiped too. */
export function withWrite<V extends VolumeGroup["logicalVolumes"][number]>(volume: V, name: string): V {
  return volume.name === name && !volume.status.includes("WRITE")
    ? { ...volume, status: [...volume.status, "WRITE"] }
    : volume;
}

/** Throws `DENIED` when a file system on the volume reaches behind its new end. */
export async function refuseCutFilesystem(
  { group, members }: FoundGroup,
  name: string,
  newSize: number,
): Promise<void> {
  const device = await openVolume(group, name, devicesOf(members));
  const found = await identifyFilesystem(device);
  await device.close();
  if (found?.size === null || found?.size === undefined || found.size <= newSize) return;
  throw new DiskError(
    "DENIED",
    `Cannot reduce logical volume ${group.name}/${name} to ${newSize} bytes: the ${found.type} file system on it has ${found.size}, allowed with --force`,
    { details: { filesystem: found.type, size: found.size } },
  );
}
