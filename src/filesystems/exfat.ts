/** exFAT by its boot sector, the label from the root directory. Microsoft exFAT specification, 3.1 and 7.3. Identified only. */
import type { BlockDevice } from "../block/device.js";
import { bytes, count64, magic, reserved, u8, u16, u32 } from "../bytes/field-types.js";
import { at, type Decoded, layout } from "../bytes/layout.js";
import { formatVolumeId } from "./fat/identify.js";
import { emptyToNull, type Filesystem, readAt } from "./filesystem.js";

export const EXFAT_BOOT_SECTOR = layout(
  "exFAT boot sector",
  { endian: "le", size: 512, spec: "Microsoft exFAT specification, 3.1" },
  {
    jump: at(0, bytes(3), "jump over this table"),
    name: at(3, magic("EXFAT   "), "identifies the file system"),
    zeros: at(11, reserved(53), "zero"),
    partitionOffset: at(64, count64, "sectors before the partition"),
    sectors: at(72, count64, "sectors"),
    fatSector: at(80, u32, "first sector of the FAT"),
    fatSectors: at(84, u32, "sectors of the FAT"),
    heapSector: at(88, u32, "first sector of cluster 2"),
    clusters: at(92, u32, "clusters"),
    rootCluster: at(96, u32, "first cluster of the root directory"),
    serial: at(100, u32, "serial number"),
    revision: at(104, u16, "major in the high byte"),
    flags: at(106, u16, "bit 1: not cleanly unmounted"),
    sectorShift: at(108, u8, "log2 of the sector size, 9..12"),
    clusterShift: at(109, u8, "log2 of the sectors of a cluster"),
    fats: at(110, u8, "copies of the FAT, 1 or 2"),
    drive: at(111, u8, "BIOS drive number"),
    percentInUse: at(112, u8, "percent of clusters in use, 0xff when not known"),
    reserved: at(113, reserved(7), "zero"),
    code: at(120, bytes(390), "boot code"),
    signature: at(510, bytes(2), "55 aa"),
  },
);

const ENTRY_SIZE = 32;
const LABEL_ENTRY = 0x83;
/** Bytes of the root directory that are looked at for a label. */
const ROOT_LIMIT = 1 << 20;

export async function identifyExfat(device: BlockDevice): Promise<Filesystem | null> {
  const sector = await readAt(device, 0, EXFAT_BOOT_SECTOR.size);
  if (!sector || Buffer.from(sector.subarray(3, 11)).toString("latin1") !== "EXFAT   ") return null;
  const boot = EXFAT_BOOT_SECTOR.decode(sector);
  if (boot.sectorShift < 9 || boot.sectorShift > 12 || boot.clusterShift > 25 - boot.sectorShift) return null;
  const sectorSize = 2 ** boot.sectorShift;
  const size = boot.sectors * sectorSize;
  return {
    type: "exfat",
    label: await volumeLabel(device, boot),
    uuid: formatVolumeId(boot.serial),
    version: `${boot.revision >> 8}.${boot.revision & 0xff}`,
    size: Number.isSafeInteger(size) ? size : null,
    used: null,
    blockSize: sectorSize * 2 ** boot.clusterShift,
  };
}

async function volumeLabel(device: BlockDevice, boot: Decoded<typeof EXFAT_BOOT_SECTOR>): Promise<string | null> {
  const sectorSize = 2 ** boot.sectorShift;
  const clusterSize = sectorSize * 2 ** boot.clusterShift;
  let cluster = boot.rootCluster;
  for (let read = 0; read < ROOT_LIMIT && cluster >= 2 && cluster < boot.clusters + 2; read += clusterSize) {
    const part = await readAt(
      device,
      boot.heapSector * sectorSize + (cluster - 2) * clusterSize,
      Math.min(clusterSize, ROOT_LIMIT),
    );
    const next = await readAt(device, boot.fatSector * sectorSize + cluster * 4, 4);
    if (!part || !next) return null;
    for (let offset = 0; offset < part.length; offset += ENTRY_SIZE) {
      if (part[offset] === 0) return null;
      if (part[offset] === LABEL_ENTRY) return entryLabel(part.subarray(offset, offset + ENTRY_SIZE));
    }
    cluster = new DataView(next.buffer, next.byteOffset).getUint32(0, true);
  }
  return null;
}

/** Byte 1 counts the UTF-16 units, at most 11, that follow it. */
function entryLabel(entry: Uint8Array): string | null {
  return emptyToNull(Buffer.from(entry.subarray(2, 2 + 2 * Math.min(entry[1]!, 11))).toString("utf16le"));
}
