/** Properties of a group changed (vgchange), and a group given away and taken over (vgexport, vgimport). Pure. */
import { DiskError } from "../../errors.js";
import type { AllocationPolicy, LogicalVolume, PhysicalVolume, Segment, VolumeGroup } from "../metadata.js";
import { isVisible } from "../metadata.js";
import { checkExtentSize } from "./group.js";
import { changedTags, type GroupPlan, setFlag, usage } from "./plan.js";

export interface ChangeGroupRequest {
  readonly maxLv?: number;
  readonly maxPv?: number;
  /** Bytes. */
  readonly extentSize?: number;
  readonly allocation?: AllocationPolicy;
  readonly addTags?: readonly string[];
  readonly deleteTags?: readonly string[];
  readonly resizeable?: boolean;
  readonly autoactivation?: boolean;
  /** A new identity. */
  readonly id?: string;
}

export function planChangeGroup(group: VolumeGroup, request: ChangeGroupRequest): GroupPlan {
  const { maxLv = group.maxLv, maxPv = group.maxPv, addTags = [], deleteTags = [], resizeable } = request;
  const { name } = group;
  const volumes = group.logicalVolumes.filter(isVisible).length;
  const refuse = (why: string) => new DiskError("DENIED", why, { details: { group: name } });
  if (maxLv > 0 && maxLv < volumes)
    throw refuse(`MaxLogicalVolume is less than the current number ${volumes} of LVs for ${name}`);
  if (maxPv > 0 && maxPv < group.physicalVolumes.length)
    throw refuse(
      `MaxPhysicalVolumes is less than the current number ${group.physicalVolumes.length} of PVs for "${name}"`,
    );
  const isResizeable = group.status.includes("RESIZEABLE");
  if (resizeable !== undefined && resizeable === isResizeable)
    throw refuse(`Volume group "${name}" is already ${resizeable ? "" : "not "}resizeable`);
  if ((request.maxLv ?? request.maxPv) !== undefined && !isResizeable)
    throw refuse(`Volume group "${name}" must be resizeable to change its limits`);
  if (request.allocation === "inherit") throw usage("Volume Group allocation policy cannot inherit from anything");
  const changed: VolumeGroup = {
    ...group,
    id: request.id ?? group.id,
    maxLv,
    maxPv,
    allocation: request.allocation ?? group.allocation,
    tags: changedTags(group.tags, addTags, deleteTags),
    status: setStatus(group.status, "RESIZEABLE", resizeable),
    flags: setFlag(group.flags, "NOAUTOACTIVATE", not(request.autoactivation)),
  };
  return {
    group: request.extentSize === undefined ? changed : withExtentSize(changed, request.extentSize),
    steps: [`Volume group "${name}" successfully changed`],
  };
}

const not = (value: boolean | undefined) => (value === undefined ? undefined : !value);

/** RESIZEABLE and ALLOCATABLE stand first. */
export function setStatus(status: readonly string[], name: string, on: boolean | undefined): readonly string[] {
  if (on === undefined || status.includes(name) === on) return status;
  return on ? [name, ...status] : status.filter((other) => other !== name);
}

/** Every count and place keeps its bytes; throws `DENIED` where one does not come out even. */
function withExtentSize(group: VolumeGroup, size: number): VolumeGroup {
  checkExtentSize(size);
  const old = group.extentSize;
  if (size === old) return group; // nothing that has to be resizeable
  if (!group.status.includes("RESIZEABLE"))
    throw new DiskError("DENIED", `Volume group "${group.name}" must be resizeable to change PE size`);
  const scaled = (extents: number): number => {
    const bytes = extents * old;
    if (bytes % size === 0 && bytes / size <= 0xffff_ffff) return bytes / size;
    throw new DiskError("DENIED", `New extent size is not a perfect fit: ${bytes} bytes are not divided by ${size}`);
  };
  const segment = (one: Segment): Segment => ({
    ...one,
    start: scaled(one.start),
    count: scaled(one.count),
    areas: one.areas.map((area) =>
      area.kind === "pv" ? { ...area, pe: scaled(area.pe) } : { ...area, le: scaled(area.le) },
    ),
  });
  const volume = (one: LogicalVolume): LogicalVolume => ({ ...one, segments: one.segments.map(segment) });
  const disk = (pv: PhysicalVolume): PhysicalVolume => ({ ...pv, peCount: scaled(pv.peCount) });
  return {
    ...group,
    extentSize: size,
    physicalVolumes: group.physicalVolumes.map(disk),
    logicalVolumes: group.logicalVolumes.map(volume),
  };
}

/** The group is put away for another host: nothing but `vgimport` changes it. */
export function planExportGroup(group: VolumeGroup): GroupPlan {
  return { group: exported(group, true), steps: [`Volume group "${group.name}" successfully exported`] };
}

export function planImportGroup(group: VolumeGroup): GroupPlan {
  if (!group.status.includes("EXPORTED"))
    throw new DiskError("DENIED", `Volume group "${group.name}" is not exported`, { details: { group: group.name } });
  return { group: exported(group, false), steps: [`Volume group "${group.name}" successfully imported`] };
}

/** The mark is on the group and on each of its physical volumes. */
export function exported(group: VolumeGroup, on: boolean): VolumeGroup {
  const mark = (status: readonly string[]) =>
    on ? [...new Set([...status, "EXPORTED"])] : status.filter((name) => name !== "EXPORTED");
  const physicalVolumes = group.physicalVolumes.map((pv) => ({ ...pv, status: mark(pv.status) }));
  return { ...group, status: mark(group.status), physicalVolumes };
}
