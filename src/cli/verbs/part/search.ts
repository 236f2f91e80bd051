/** Finds file systems on a disk without a table: at every mebibyte that holds data, where nearly all partitions begin. */
import type { BlockDevice } from "../../../block/device.js";
import { slice } from "../../../block/slice.js";
import { alignDown, alignUp } from "../../../bytes/align.js";
import type { Filesystem } from "../../../filesystems/filesystem.js";
import { identifyFilesystem } from "../../../filesystems/identify.js";
import type { LayoutLine } from "../../../partitions/script/layout.js";

const STEP = 1 << 20;
/** Where DOS put the first partition. */
const DOS_FIRST = 63 * 512;
const SECTOR = 512;
const MAX_FOUND = 15;

const TYPES: Readonly<Record<string, string>> = {
  swap: "swap",
  LVM2_member: "lvm",
  vfat: "data",
  ntfs: "data",
  exfat: "data",
};

/** One line per file system found, in the order of the disk, at most fifteen. */
export async function searchFilesystems(device: BlockDevice): Promise<LayoutLine[]> {
  const found: { start: number; filesystem: Filesystem }[] = [];
  let behind = 0; // nothing is looked for within a file system that was found
  for await (const offset of candidates(device)) {
    if (offset < behind || found.length === MAX_FOUND) continue;
    const filesystem = await identifyFilesystem(slice(device, offset, alignDown(device.size - offset, SECTOR)));
    if (!filesystem || (filesystem.size ?? 0) > device.size - offset) continue;
    found.push({ start: offset, filesystem });
    behind = offset + (filesystem.size ?? STEP);
  }
  return found.map(({ start, filesystem }, i) => {
    const next = found[i + 1]?.start;
    const size =
      filesystem.size === null
        ? next === undefined
          ? ("all" as const)
          : next - start
        : alignUp(filesystem.size, SECTOR);
    return { start, size, type: TYPES[filesystem.type] ?? "linux" };
  });
}

/** Offsets whose first bytes are stored; holes are passed over without being read. */
async function* candidates(device: BlockDevice): AsyncGenerator<number> {
  let last = -1;
  for await (const { offset, length, zero } of device.extents(0, device.size)) {
    if (zero) continue;
    if (offset <= DOS_FIRST && offset + length > DOS_FIRST) yield DOS_FIRST;
    // A superblock may lie up to 64 KiB behind the partition's start, which may itself be a hole.
    for (let at = Math.max(STEP, alignDown(offset, STEP)); at < offset + length; at += STEP) {
      if (at > last) yield at;
      last = Math.max(last, at);
    }
  }
}
