/**
 * A disk made larger or smaller while a guest uses it. The daemon's backend thread changes the file and refuses what a cut
 * would lose; the partition table is written through the guest's own device, so that guest and image agree.
 */
import { DiskError } from "../errors.js";
import type { OpenDisk } from "../stack/disk.js";
import { type ResizedDisk, type ResizeOptions, resizeAll } from "../stack/resize-disk.js";
import type { Dom0Client } from "./client.js";

export interface AttachedDisk {
  readonly domain: string;
  readonly vdev: string;
  /** Opens the guest's device, for writing unless nothing is to be changed. */
  open(): Promise<OpenDisk>;
}

/** `newSize` is told the present one. Bytes. */
export async function resizeAttached(
  client: Dom0Client,
  { domain, vdev, open }: AttachedDisk,
  newSize: (present: number) => number,
  options: ResizeOptions,
): Promise<ResizedDisk> {
  const { shrink = false } = options;
  let disk = await open();
  try {
    if (disk.name.part) throw refusedPart(disk);
    const resizable = {
      device: disk.device,
      refuse: async (size: number) => {
        await client.resize(vdev, { domain, size, shrink, dryRun: true });
      },
      resize: async (size: number) => {
        // An NBD client keeps the size that it was told when it connected.
        await disk.device.close();
        await client.resize(vdev, { domain, size, shrink });
        disk = await open();
        return disk.device;
      },
    };
    return await resizeAll(resizable, newSize(disk.device.size), options);
  } finally {
    await disk.device.close();
  }
}

function refusedPart({ name }: OpenDisk): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot resize ${name.text}: it is a part of a disk, allowed are whole devices`);
}
