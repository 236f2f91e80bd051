/** Changes of a group as a whole and of its physical volumes. Pure. */
import { DiskError } from "../../errors.js";
import { usedRuns } from "../check-group.js";
import { assign } from "../config/tree.js";
import { peCount } from "../create-pv.js";
import type { PvLabel } from "../label.js";
import { SECTOR } from "../layout.js";
import type { AllocationPolicy, PhysicalVolume, VolumeGroup } from "../metadata.js";
import { checkGroupName } from "../names.js";
import { type GroupPlan, requireResizeable, usage } from "./plan.js";

/** A physical volume that is to come into a group. */
export interface NewMember {
  /** The device as users name it. */
  readonly device: string;
  /** Bytes of the device. */
  readonly size: number;
  readonly label: PvLabel;
}

export interface CreateGroupRequest {
  readonly name: string;
  readonly id: string;
  /** Bytes. */
  readonly extentSize: number;
  readonly maxLv?: number;
  readonly maxPv?: number;
  readonly allocation?: AllocationPolicy;
  readonly tags?: readonly string[];
  /** False: a kernel does not activate its volumes by itself. */
  readonly autoactivation?: boolean;
  readonly members: readonly NewMember[];
}

export const DEFAULT_EXTENT_SIZE = 4 << 20;
const KIB = 1024;

export function planCreateGroup(request: CreateGroupRequest): GroupPlan {
  const { name, id, extentSize, maxLv = 0, maxPv = 0, allocation = "normal", tags = [], members } = request;
  checkGroupName(name);
  checkExtentSize(extentSize);
  if (allocation === "inherit")
    throw usage(
      `Cannot create volume group ${name}: its allocation policy is inherit, allowed contiguous cling normal anywhere`,
    );
  if (members.length === 0) throw usage(`Cannot create volume group ${name}: no physical volume is given`);
  const empty: VolumeGroup = {
    name,
    id,
    seqno: 0,
    status: ["RESIZEABLE", "READ", "WRITE"],
    flags: request.autoactivation === false ? ["NOAUTOACTIVATE"] : [],
    tags,
    extentSize,
    maxLv,
    maxPv,
    systemId: "",
    lockType: "",
    allocation,
    physicalVolumes: [],
    logicalVolumes: [],
    rest: [],
  };
  return { group: withMembers(empty, members), steps: [`Volume group "${name}" successfully created`] };
}

export function planExtendGroup(group: VolumeGroup, members: readonly NewMember[]): GroupPlan {
  requireResizeable(group);
  return { group: withMembers(group, members), steps: [`Volume group "${group.name}" successfully extended`] };
}

function withMembers(group: VolumeGroup, members: readonly NewMember[]): VolumeGroup {
  const physicalVolumes = [...group.physicalVolumes];
  for (const member of members) {
    if (physicalVolumes.some(({ id }) => id === member.label.id))
      throw new DiskError("DENIED", `Cannot add ${member.device} to volume group ${group.name}: it has it already`);
    physicalVolumes.push(newPv(group, freeName(physicalVolumes), member));
  }
  if (group.maxPv > 0 && physicalVolumes.length > group.maxPv)
    throw new DiskError(
      "DENIED",
      `Cannot add physical volumes to ${group.name}: it would have ${physicalVolumes.length}, its limit is ${group.maxPv}`,
    );
  return { ...group, physicalVolumes };
}

function newPv(
  { name: group, extentSize }: VolumeGroup,
  name: string,
  { device, size, label }: NewMember,
): PhysicalVolume {
  const deviceSize = Math.min(size, label.deviceSize);
  const count = peCount(label, extentSize, deviceSize);
  if (count === 0)
    throw new DiskError(
      "NO_SPACE",
      `Cannot add ${device} to volume group ${group}: it has no room for an extent of ${extentSize} bytes`,
    );
  return {
    name,
    id: label.id,
    device,
    status: ["ALLOCATABLE"],
    flags: [],
    tags: [],
    deviceSize,
    peStart: label.dataAreas[0]?.offset ?? 0,
    peCount: count,
    rest: label.bootAreas
      .slice(0, 1)
      .flatMap((area) => [assign("ba_start", area.offset / SECTOR), assign("ba_size", area.size / SECTOR)]),
  };
}

function freeName(volumes: readonly PhysicalVolume[]): string {
  const taken = new Set(volumes.map(({ name }) => name));
  for (let number = volumes.length; ; number++) if (!taken.has(`pv${number}`)) return `pv${number}`;
}

/** `device` tells how users call a volume. */
export function planReduceGroup(
  group: VolumeGroup,
  names: readonly string[],
  device: (pv: PhysicalVolume) => string,
): GroupPlan {
  requireResizeable(group);
  const runs = usedRuns(group);
  const gone = group.physicalVolumes.filter(({ name }) => names.includes(name));
  for (const pv of gone)
    if ((runs.get(pv.name) ?? []).length > 0)
      throw new DiskError("DENIED", `Physical volume "${device(pv)}" still in use`, {
        details: { device: device(pv) },
      });
  const physicalVolumes = group.physicalVolumes.filter((pv) => !gone.includes(pv));
  if (physicalVolumes.length === 0)
    throw new DiskError(
      "DENIED",
      `Can't remove final physical volume "${device(gone[0]!)}" from volume group "${group.name}"`,
    );
  return {
    group: { ...group, physicalVolumes },
    steps: gone.map((pv) => `Removed "${device(pv)}" from volume group "${group.name}"`),
  };
}

export function planRenameGroup(group: VolumeGroup, name: string): GroupPlan {
  checkGroupName(name);
  if (name === group.name) throw usage("New volume group name must differ from the old one");
  return { group: { ...group, name }, steps: [`Volume group "${group.name}" successfully renamed to "${name}"`] };
}

/** The volume's extents follow its device. Throws `DENIED` when extents in use would be cut off. */
export function planResizePv(
  group: VolumeGroup,
  name: string,
  label: PvLabel,
  size: number,
  device: string,
): GroupPlan {
  const count = peCount(label, group.extentSize, size);
  const used = usedRuns(group).get(name) ?? [];
  const last = Math.max(0, ...used.map((run) => run.pe + run.count));
  if (last > count)
    throw new DiskError(
      "DENIED",
      `Cannot resize physical volume "${device}": it would have ${count} extents, extent ${last - 1} is in use`,
    );
  const physicalVolumes = group.physicalVolumes.map((pv) =>
    pv.name === name ? { ...pv, deviceSize: size, peCount: count } : pv,
  );
  return { group: { ...group, physicalVolumes }, steps: [`Physical volume "${device}" changed`] };
}

export function checkExtentSize(size: number): void {
  const power = size >= KIB && Number.isInteger(Math.log2(size));
  if (power || (size > 0 && size % (128 * KIB) === 0)) return;
  throw usage(
    `Physical extent size must be a power of 2 of at least 1.00 KiB, or a multiple of 128.00 KiB; ${size} bytes are given`,
  );
}
