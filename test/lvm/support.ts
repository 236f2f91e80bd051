/** Volume groups in memory: devices that are sparse, and the disks that the real LVM2 made (fixtures/lvm). */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { type CreateVolumeRequest, planCreateVolume } from "#src/lvm/changes/create-volume.js";
import { planCreateGroup } from "#src/lvm/changes/group.js";
import { planCommit, runCommit } from "#src/lvm/commit.js";
import { type PvRequest, planPv, writePv } from "#src/lvm/create-pv.js";
import { newId } from "#src/lvm/id.js";
import type { VolumeGroup } from "#src/lvm/metadata.js";
import { type Candidate, type FoundPv, scanDevices } from "#src/lvm/scan.js";

export const MIB = 1 << 20;
export const HEADER = { description: "a test", creationHost: "here", creationTime: 1_795_000_000 };

/** Repeatable bytes. */
export function seededRandom(seed = 1): (size: number) => Uint8Array {
  let state = seed >>> 0 || 1;
  return (size) =>
    Uint8Array.from({ length: size }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> 24;
    });
}

/** A device that stores its first bytes and reads zeros behind them: large disks of which only the metadata is looked at. */
export function headDevice(head: Uint8Array, size: number, label: string): BlockDevice {
  return defineDevice({
    label,
    size,
    async read(offset, into) {
      into.fill(0);
      if (offset < head.length) into.set(head.subarray(offset, Math.min(head.length, offset + into.length)));
    },
    async write(offset, data) {
      if (offset + data.length > head.length) throw new Error(`${label} stores ${head.length} bytes only`);
      head.set(data, offset);
    },
  });
}

const FOLDER = new URL("../../fixtures/lvm/", import.meta.url);

/** The three disks of the group vgref. */
export function referenceDisks(): Candidate[] {
  return [0, 1, 2].map((i) => {
    const head = new Uint8Array(gunzipSync(readFileSync(new URL(`pv${i}.gz`, FOLDER))));
    return { name: `pv${i}`, device: headDevice(head, 128 * MIB, `pv${i}`) };
  });
}

export function referenceText(): string {
  return readFileSync(new URL("vgref.vg", FOLDER), "latin1");
}

type Rows = Record<string, string>[];

/** What LVM2's reports say of these disks, sizes in bytes. */
export function referenceReports(): { lvs: Rows; vgs: Rows; pvs: Rows; text: string } {
  return JSON.parse(readFileSync(new URL("expected.json", FOLDER), "utf8"));
}

export interface Disk extends Candidate {
  readonly bytes: Uint8Array;
}

export function memoryDisks(sizes: readonly number[], blockSize = 1): Disk[] {
  return sizes.map((size, i) => {
    const bytes = new Uint8Array(size);
    return { name: `disk${i}`, bytes, device: memoryDevice(bytes, { label: `disk${i}`, blockSize }) };
  });
}

/** Physical volumes on all disks, in no group yet. */
export async function makePvs(
  disks: readonly Candidate[],
  request: Omit<PvRequest, "id"> = {},
  seed = 7,
): Promise<FoundPv[]> {
  const random = seededRandom(seed);
  const { byteGranular } = await import("#src/block/aligned.js");
  for (const { device } of disks)
    await writePv(byteGranular(device), planPv(device, { ...request, id: newId(random) }));
  return [...(await scanDevices(disks)).free];
}

export interface MakeGroupOptions extends Omit<PvRequest, "id"> {
  readonly extentSize?: number;
  readonly name?: string;
}

/** A group over all disks, written to them. */
export async function makeGroup(disks: readonly Candidate[], options: MakeGroupOptions = {}): Promise<VolumeGroup> {
  const { extentSize = 64 << 10, name = "vg", ...request } = options;
  const pvs = await makePvs(disks, request);
  const members = pvs.map(({ name: device, label, device: { size } }) => ({ device, label, size }));
  const { group } = planCreateGroup({ name, id: newId(seededRandom(99)), extentSize, members });
  return writeGroup(disks, group);
}

/** Writes a changed group as the commands do, and returns it as it reads back. */
export async function writeGroup(disks: readonly Candidate[], group: VolumeGroup): Promise<VolumeGroup> {
  const scan = await scanDevices(disks);
  const found = scan.groups.find((other) => other.group.id === group.id);
  const all = [...scan.free, ...(found ? [...found.members.values()] : [])].filter((pv) => pv !== null);
  const members = group.physicalVolumes.flatMap(({ id }) => all.filter(({ label }) => label.id === id));
  const removed = found
    ? [...found.members.values()].filter((pv) => pv !== null).filter((pv) => !members.includes(pv))
    : [];
  const seqno = (found?.group.seqno ?? 0) + 1;
  await runCommit(planCommit({ group: { ...group, seqno }, header: HEADER, members, removed }));
  return (await scanDevices(disks)).groups.find((other) => other.group.id === group.id)!.group;
}

/** A group as a value only: `sizes` in extents. */
export function valueGroup(sizes: readonly number[], extentSize = 4 * MIB): VolumeGroup {
  const random = seededRandom(5);
  const members = sizes.map((count, i) => ({
    device: `disk${i}`,
    size: MIB + count * extentSize,
    label: planPv({ size: MIB + count * extentSize, label: "disk" }, { id: newId(random) }).label,
  }));
  return planCreateGroup({ name: "vg", id: newId(random), extentSize, members }).group;
}

export function addVolume(
  group: VolumeGroup,
  name: string,
  request: Partial<CreateVolumeRequest> & Pick<CreateVolumeRequest, "size">,
): VolumeGroup {
  return planCreateVolume(group, {
    name,
    id: newId(seededRandom([...name].reduce((sum, c) => sum * 31 + c.charCodeAt(0), 7))),
    time: 1,
    host: "here",
    ...request,
  }).group;
}

export const extents = (count: number, sign: "" | "+" | "-" = "") => ({ kind: "extents", sign, count }) as const;
