/** RAID volumes in memory, of which legs can be taken away, fail, and be compared. */
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { DiskError } from "#src/errors.js";
import { openVolume } from "#src/lvm/activate.js";
import { type CreateRaidRequest, planCreateRaid } from "#src/lvm/changes/create-raid.js";
import { newId } from "#src/lvm/id.js";
import type { VolumeGroup } from "#src/lvm/metadata.js";
import { extents, MIB, makeGroup, memoryDisks, seededRandom } from "../support.js";

export interface RaidWorld {
  readonly group: VolumeGroup;
  /** By the local names of the group. Null: missing. */
  devices: Map<string, BlockDevice | null>;
  readonly disks: readonly FlakyDisk[];
  open(writable?: boolean): Promise<BlockDevice>;
  /** The bytes of a part as they are on its disk. */
  bytesOf(part: string): Uint8Array;
}

export interface FlakyDisk {
  readonly bytes: Uint8Array;
  readonly device: BlockDevice;
  /** Which calls fail from now on. */
  broken: { read?: boolean; write?: boolean };
  /** Called before each write and flush. */
  before: ((what: "write" | "flush", offset: number, length: number) => void) | null;
}

export async function raidWorld(
  request: Partial<CreateRaidRequest> & Pick<CreateRaidRequest, "type">,
  { disks: count = 6, size = 4 * MIB, extentSize = 64 << 10, count: lvExtents = 24 } = {},
): Promise<RaidWorld> {
  const memory = memoryDisks(Array.from({ length: count }, () => size));
  const empty = await makeGroup(memory, { extentSize });
  const random = seededRandom(31);
  const { group } = planCreateRaid(empty, {
    name: "lv",
    id: newId(random),
    newId: () => newId(random),
    time: 1,
    host: "here",
    size: extents(lvExtents),
    regionSize: 64 << 10,
    ...request,
  });
  const disks = memory.map(({ bytes }, i) => flakyDisk(bytes, `disk${i}`));
  return worldOf(group, disks);
}

export function worldOf(group: VolumeGroup, disks: readonly FlakyDisk[]): RaidWorld {
  const world: RaidWorld = {
    group,
    disks,
    devices: new Map(disks.map(({ device }, i) => [`pv${i}`, device])),
    open: (writable = true) => openVolume(group, "lv", world.devices, { writable }),
    bytesOf(part) {
      const [segment] = group.logicalVolumes.find(({ name }) => name === part)!.segments;
      const [area] = segment!.areas;
      if (area?.kind !== "pv") throw new Error(`${part} does not lie on a physical volume`);
      const { peStart } = group.physicalVolumes.find(({ name }) => name === area.pv)!;
      const begin = peStart + area.pe * group.extentSize;
      return disks[Number(area.pv.slice(2))]!.bytes.subarray(begin, begin + segment!.count * group.extentSize);
    },
  };
  return world;
}

export function flakyDisk(bytes: Uint8Array, label: string): FlakyDisk {
  const disk: FlakyDisk = {
    bytes,
    broken: {},
    before: null,
    device: defineDevice({
      label,
      size: bytes.length,
      async read(offset, into) {
        if (disk.broken.read) throw new DiskError("IO", `Cannot read ${label}: it is broken`);
        into.set(bytes.subarray(offset, offset + into.length));
      },
      async write(offset, data) {
        disk.before?.("write", offset, data.length);
        if (disk.broken.write) throw new DiskError("IO", `Cannot write ${label}: it is broken`);
        bytes.set(data, offset);
      },
      async flush() {
        disk.before?.("flush", 0, 0);
        if (disk.broken.write) throw new DiskError("IO", `Cannot flush ${label}: it is broken`);
      },
    }),
  };
  return disk;
}

/** Legs of a type that its tests use, and how many of them may be lost at once. */
export function shapeOf(type: string): { legs: number; spare: number; request: Partial<CreateRaidRequest> } {
  if (type === "raid1" || type === "mirror") return { legs: 3, spare: 2, request: { mirrors: 2 } };
  const stripes = { stripeSize: 4096 };
  if (type === "raid10") return { legs: 4, spare: 1, request: { ...stripes, stripes: 2 } };
  if (type.startsWith("raid6")) return { legs: 6, spare: 2, request: { ...stripes, stripes: 4 } };
  return { legs: 4, spare: 1, request: { ...stripes, stripes: 3 } };
}
