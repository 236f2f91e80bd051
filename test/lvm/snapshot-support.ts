/** Volumes with old-style snapshots on small disks in memory. */
import type { BlockDevice } from "#src/block/device.js";
import { openContext, openVolume } from "#src/lvm/activate.js";
import { planCreateSnapshot } from "#src/lvm/changes/create-snapshot.js";
import { newId } from "#src/lvm/id.js";
import type { VolumeGroup } from "#src/lvm/metadata.js";
import { type Candidate, devicesOf, findGroup, scanDevices } from "#src/lvm/scan.js";
import { membersOf } from "#src/lvm/segments/snapshot/open.js";
import { formatStore } from "#src/lvm/segments/snapshot/store.js";
import { type Disk, extents, seededRandom, writeGroup } from "./support.js";

const random = seededRandom(4711);

export interface SnapshotRequest {
  readonly name: string;
  readonly origin: string;
  /** Extents. */
  readonly size: number;
  readonly chunkSize?: number;
}

/** As lvcreate does: the store first, then the group. */
export async function addSnapshot(disks: readonly Disk[], group: VolumeGroup, request: SnapshotRequest) {
  const { size, ...rest } = request;
  const plan = planCreateSnapshot(group, {
    ...rest,
    size: extents(size),
    id: newId(random),
    jointId: newId(random),
    time: 1,
    host: "here",
  });
  const cow = await openStore(disks, plan.group, request.name);
  await formatStore(cow, plan.chunkSize);
  await cow.close();
  return writeGroup(disks, plan.group);
}

/** A snapshot's store as it lies on the disks. */
export async function openStore(disks: readonly Disk[], group: VolumeGroup, name: string): Promise<BlockDevice> {
  const apart = { ...group, logicalVolumes: group.logicalVolumes.filter(({ name }) => !name.startsWith("snapshot")) };
  return openVolume(apart, name, await devices(disks, group), { writable: true });
}

export async function openNamed(
  disks: readonly Candidate[],
  name: string,
  options: { writable?: boolean; warn?: (text: string) => void } = {},
): Promise<BlockDevice> {
  const { group, members } = findGroup(await scanDevices(disks), "vg");
  return openVolume(group, name, devicesOf(members), options);
}

export async function contents(device: BlockDevice): Promise<Buffer> {
  const bytes = Buffer.alloc(device.size);
  await device.read(0, bytes);
  return bytes;
}

async function devices(disks: readonly Disk[], group: VolumeGroup) {
  const scan = await scanDevices(disks);
  const all = [...scan.free, ...scan.groups.flatMap(({ members }) => [...members.values()])];
  return new Map(
    group.physicalVolumes.map(({ name, id }) => [name, all.find((pv) => pv?.label.id === id)?.device ?? null]),
  );
}

/** All of an origin, for the merge. */
export async function openOrigin(disks: readonly Candidate[], origin: string) {
  const { group, members } = findGroup(await scanDevices(disks), "vg");
  const { context, close } = openContext(group, origin, devicesOf(members), { writable: true });
  return { shared: await membersOf(context, origin), close };
}
