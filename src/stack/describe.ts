/** What lies on a disk: partition table, partitions, file systems. For `info`; nothing is judged, damage is told and not thrown. */
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import type { Filesystem } from "../filesystems/filesystem.js";
import { identifyFilesystem } from "../filesystems/identify.js";
import { openPartition, type Partition, type PartitionTable, readPartitionTable } from "../partitions/table.js";

export interface DescribedPartition
  extends Pick<Partition, "number" | "offset" | "size" | "type" | "uuid" | "name" | "kind" | "bootable"> {
  readonly filesystem: Filesystem | null;
}

export interface DiskContents {
  readonly table: PartitionTable | null;
  readonly partitions: readonly DescribedPartition[];
  /** On the whole disk; looked for only when there is no partition table. */
  readonly filesystem: Filesystem | null;
  /** Logical volumes of the groups that have a physical volume here. */
  readonly volumes: readonly DescribedVolume[];
  /** What is damaged or unusual, a sentence each. */
  readonly problems: readonly string[];
}

export interface DescribedVolume {
  /** `vg0/root`, as it stands behind the disk's name. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** linear, striped, raid1, thin … */
  readonly type: string;
  readonly uuid: string;
  /** Some of its group's physical volumes are not on this disk. */
  readonly partial: boolean;
}

export async function describeDisk(device: BlockDevice): Promise<DiskContents> {
  const problems: string[] = [];
  const table = await tolerant(() => readPartitionTable(device), problems);
  if (!table) {
    const filesystem = await tolerant(() => identifyFilesystem(device), problems);
    const volumes = filesystem?.type === LVM ? await describeVolumes([device], problems) : [];
    return { table: null, partitions: [], filesystem, volumes, problems };
  }
  problems.push(...table.problems.map(({ message }) => message));
  const partitions: DescribedPartition[] = [];
  for (const { number, offset, size, type, uuid, name, kind, bootable } of table.partitions) {
    const find = () => identifyFilesystem(openPartition(device, table, number));
    const filesystem = kind === "extended" ? null : await tolerant(find, problems);
    partitions.push({ number, offset, size, type, uuid, name, kind, bootable, filesystem });
  }
  const members = partitions.filter(({ filesystem }) => filesystem?.type === LVM);
  const devices = members.map(({ number }) => openPartition(device, table, number));
  const volumes = devices.length > 0 ? await describeVolumes(devices, problems) : [];
  return { table, partitions, filesystem: null, volumes, problems };
}

const LVM = "LVM2_member";

async function describeVolumes(devices: readonly BlockDevice[], problems: string[]): Promise<DescribedVolume[]> {
  const [{ scanDevices }, { GroupFacts }, { volumeSize }, { shownType }] = await Promise.all([
    import("../lvm/scan.js"),
    import("../lvm/report/volume-facts.js"),
    import("../lvm/metadata.js"),
    import("../lvm/report/volume-fields.js"),
  ]);
  const scan = await scanDevices(devices.map((device) => ({ name: device.label, device })));
  problems.push(...scan.warnings.map((warning) => warning.replace(/^WARNING: /, "").replace(/\.$/, "")));
  return scan.groups.flatMap((found) => {
    const facts = new GroupFacts(found);
    const partial = [...found.members.values()].includes(null);
    return found.group.logicalVolumes
      .filter((volume) => facts.isShown(volume))
      .map((volume) => ({
        name: `${found.group.name}/${volume.name}`,
        size: volumeSize(found.group, volume),
        type: volume.segments[0] ? shownType(volume.segments[0]) : "linear",
        uuid: volume.id,
        partial,
      }));
  });
}

/** Damage of one thing must not hide the others. */
async function tolerant<T>(work: () => Promise<T>, problems: string[]): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof DiskError) || error.code !== "CORRUPT") throw error;
    problems.push(error.message);
    return null;
  }
}
