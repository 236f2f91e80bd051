/** Properties of a physical volume changed (pvchange). Pure. */
import { DiskError } from "../../errors.js";
import type { PhysicalVolume, VolumeGroup } from "../metadata.js";
import { setStatus } from "./change-group.js";
import { changedTags, type GroupPlan } from "./plan.js";

export interface ChangePvRequest {
  /** Whether new extents may be taken from it. */
  readonly allocatable?: boolean;
  readonly addTags?: readonly string[];
  readonly deleteTags?: readonly string[];
  /** A new identity. */
  readonly id?: string;
}

/** `device` is what users call the volume of the local name `name`. */
export function planChangePv(
  group: VolumeGroup,
  name: string,
  { allocatable, addTags = [], deleteTags = [], id }: ChangePvRequest,
  device: string,
): GroupPlan {
  const change = (pv: PhysicalVolume): PhysicalVolume => {
    if (allocatable !== undefined && pv.status.includes("ALLOCATABLE") === allocatable)
      throw new DiskError(
        "DENIED",
        `Physical volume "${device}" is already ${allocatable ? "allocatable" : "unallocatable"}.`,
        { details: { same: true } },
      );
    return {
      ...pv,
      id: id ?? pv.id,
      status: setStatus(pv.status, "ALLOCATABLE", allocatable),
      tags: changedTags(pv.tags, addTags, deleteTags),
    };
  };
  const physicalVolumes = group.physicalVolumes.map((pv) => (pv.name === name ? change(pv) : pv));
  return { group: { ...group, physicalVolumes }, steps: [`Physical volume "${device}" changed`] };
}
