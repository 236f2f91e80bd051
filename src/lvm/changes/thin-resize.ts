/** A thin pool's data or metadata made larger. Pure; the pool takes the new room in when it is opened next. */
import { DiskError } from "../../errors.js";
import { extentCount, findVolume, type LogicalVolume, textField, type VolumeGroup } from "../metadata.js";
import type { Size } from "./extents.js";
import { planResizeVolume, type ResizeVolumePlan, type ResizeVolumeRequest } from "./resize-volume.js";
import { ensureSpare, findPool, type PoolRequest } from "./thin-pool.js";
import { withSegment } from "./thin-volume.js";

export interface ResizePoolRequest
  extends Omit<ResizeVolumeRequest, "size">,
    Pick<PoolRequest, "newId" | "time" | "host"> {
  /** Of the data; null: it stays. */
  readonly size: Size | null;
  /** Of the metadata; null: it stays. */
  readonly metadataSize: Size | null;
}

export function planResizePool(group: VolumeGroup, request: ResizePoolRequest): ResizeVolumePlan {
  const { pool, segment } = findPool(group, request.name);
  if (request.way === "reduce")
    throw new DiskError("UNSUPPORTED", `Thin pool volumes ${group.name}/${pool.name} cannot be reduced in size yet.`);
  const from = extentCount(pool);
  const steps: string[] = [];
  let changed = group;
  const grow = (part: string, size: Size) => {
    // The part as a volume that nothing lies on: the pool does not mind.
    const others = changed.logicalVolumes.filter(({ name }) => name !== pool.name);
    const plan = planResizeVolume(
      { ...changed, logicalVolumes: others },
      { ...request, way: "extend", name: part, size },
    );
    steps.push(...plan.steps.slice(0, -1));
    const volumes = changed.logicalVolumes.map((old) => (old.name === part ? findVolume(plan.group, part) : old));
    changed = { ...changed, logicalVolumes: volumes };
    return plan.to;
  };
  if (request.metadataSize) {
    grow(textField(segment, "metadata")!, request.metadataSize);
    changed = ensureSpare(changed, request).group;
  }
  const to = request.size ? grow(textField(segment, "pool")!, request.size) : from;
  return {
    from,
    to,
    group: withSegment(changed, findVolume(changed, pool.name), { ...segment, count: to }),
    steps: [...steps, `Logical volume ${group.name}/${pool.name} successfully resized.`],
  };
}

/** The pool whose metadata a volume is, by whose own name it may be made larger too. */
export function poolWithMetadata({ logicalVolumes }: VolumeGroup, name: string): LogicalVolume | undefined {
  return logicalVolumes.find(
    ({ segments: [segment] }) => segment?.type === "thin-pool" && textField(segment, "metadata") === name,
  );
}
