/** Thin volumes and pools taken out of a group. Pure. */
import { DiskError } from "../../errors.js";
import { findVolume, type LogicalVolume, type VolumeGroup } from "../metadata.js";
import { volumesAbove, volumeTree } from "./dependents.js";
import type { GroupPlan } from "./plan.js";
import { dropSpare } from "./thin-pool.js";
import { removeThin, thinVolumes } from "./thin-volume.js";

export type RemovePlan = GroupPlan & {
  readonly removed: readonly string[];
  /** Volumes that go because this one goes. */
  readonly dependents: readonly string[];
};

export function planRemoveThin(group: VolumeGroup, volume: LogicalVolume): RemovePlan {
  refuseUsers(group, volume, []);
  return {
    removed: [volume.name],
    dependents: [],
    group: removeThin(group, volume),
    steps: [`Logical volume "${volume.name}" successfully removed.`],
  };
}

/** With all thin volumes in it; nobody has to be told. */
export function planRemovePool(group: VolumeGroup, pool: LogicalVolume): RemovePlan {
  const thins = thinVolumes(group, pool.name);
  for (const thin of thins) refuseUsers(group, thin, thins);
  const dependents = thins.map(({ name }) => name);
  const removed = [...dependents, ...volumeTree(group, pool.name)];
  const logicalVolumes = group.logicalVolumes.filter(({ name }) => !removed.includes(name));
  return {
    removed,
    dependents,
    group: dropSpare({ ...group, logicalVolumes }),
    steps: [...dependents, pool.name].map((name) => `Logical volume "${name}" successfully removed.`),
  };
}

/** Thin snapshots do without their origin. */
function refuseUsers(group: VolumeGroup, { name }: LogicalVolume, going: readonly LogicalVolume[]): void {
  const volume = findVolume(group, name);
  const users = volumesAbove(group, name).filter(
    (user) => !going.includes(user) && !(user.segments[0]?.type === "thin" && volume.segments[0]?.type === "thin"),
  );
  if (users.length > 0)
    throw new DiskError(
      "DENIED",
      `Cannot remove logical volume ${group.name}/${name}: ${users.map((user) => user.name).join(" ")} need it`,
    );
}
