/**
 * What reports tell of volumes that their group's text does not say and their own bytes do: how full a snapshot is. What cannot be
 * read is left out: a list has to work with disks missing and stores damaged.
 */
import { openContext } from "../activate.js";
import { devicesOf, type FoundGroup } from "../scan.js";
import { chunkSizeOf, snapshotJoints } from "../segments/snapshot/roles.js";
import { readStoreUsage, type StoreUsage, usagePercent } from "../segments/snapshot/usage.js";
import type { ThinUsage } from "../thin/usage.js";

export interface Measured extends ThinUsage {
  /** 0..100, of what the volume stores by itself. */
  readonly dataPercent?: number;
  /** Of a snapshot. */
  readonly store?: StoreUsage;
}

/** By the names of volumes; those of which there is nothing to tell are not in it. */
export async function measureVolumes(found: FoundGroup): Promise<ReadonlyMap<string, Measured>> {
  const measured = new Map<string, Measured>();
  if (found.group.logicalVolumes.some(({ segments }) => segments[0]?.type === "thin-pool")) {
    const { readThinUsage } = await import("../thin/usage.js");
    for (const [name, usage] of await readThinUsage(found.group, devicesOf(found.members))) measured.set(name, usage);
  }
  const joints = snapshotJoints(found.group);
  const [first] = joints;
  if (!first) return measured;
  const { context, close } = openContext(found.group, first.cow, devicesOf(found.members));
  try {
    for (const joint of joints) {
      const store = await context
        .open(joint.cow)
        .then((cow) => readStoreUsage(cow, chunkSizeOf(joint)))
        .catch(() => null);
      if (store) measured.set(joint.cow, { store, dataPercent: usagePercent(store) });
    }
  } finally {
    await close();
  }
  return measured;
}
