/** Work on the legs of a volume as a whole: filled, compared, mended. The volume is locked meanwhile, its group is not. */
import { DiskError } from "../../errors.js";
import { openVolume } from "../../lvm/activate.js";
import { findVolume } from "../../lvm/metadata.js";
import { devicesOf, findGroup } from "../../lvm/scan.js";
import type { LegSet } from "../../lvm/segments/target.js";
import { type ChangeOptions, type LvmContext, sessionOptions } from "./change.js";
import { lockVolume } from "./locks.js";
import { openSession } from "./open-session.js";

/** `work` gets the legs of `group/name`, open for writing; the volume is closed behind it. */
export async function withLegs<T>(
  context: LvmContext,
  { devices }: Pick<ChangeOptions, "devices">,
  { group, volume: name }: { readonly group: string; readonly volume: string },
  work: (legs: LegSet) => Promise<T>,
): Promise<T | null> {
  const session = await openSession(devices, { ...sessionOptions(context), writable: true });
  try {
    const found = findGroup(session.scan, group);
    const volume = findVolume(found.group, name);
    const purpose = `make the legs of ${group}/${name} alike`;
    const lock = await lockVolume(context.paths.home, found.group, volume, "write", purpose);
    try {
      let result: T | null = null;
      const device = await openVolume(found.group, name, devicesOf(found.members), {
        writable: true,
        maintain: async (legs, which) => {
          if (which.id === volume.id) result = await work(legs);
        },
      });
      await device.flush();
      await device.close();
      return result;
    } finally {
      await lock.release();
    }
  } finally {
    await session.close();
  }
}

/** Fills legs that are behind and makes the others alike. */
export async function syncLegs(
  context: LvmContext,
  options: Pick<ChangeOptions, "devices">,
  name: { readonly group: string; readonly volume: string },
): Promise<void> {
  await withLegs(context, options, name, (legs) => legs.recover(Infinity));
}

/** The same, unless somebody has the volume open: its next opening does it. */
export async function syncIdleLegs(...args: Parameters<typeof syncLegs>): Promise<void> {
  try {
    await syncLegs(...args);
  } catch (error) {
    if (!(error instanceof DiskError) || error.details.locked !== true) throw error;
  }
}
