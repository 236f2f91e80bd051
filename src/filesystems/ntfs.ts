/** NTFS by its boot sector, the label from the $Volume record of the master file table. Linux fs/ntfs3/ntfs.h. Identified only. */
import type { BlockDevice } from "../block/device.js";
import { bytes, count64, magic, reserved, u8, u16, u32, u64 } from "../bytes/field-types.js";
import { at, layout } from "../bytes/layout.js";
import { emptyToNull, type Filesystem, isPowerOfTwo, readAt } from "./filesystem.js";

export const NTFS_BOOT_SECTOR = layout(
  "NTFS boot sector",
  { endian: "le", size: 512, spec: "Linux, fs/ntfs3/ntfs.h" },
  {
    jump: at(0, bytes(3), "jump over this table"),
    oemName: at(3, magic("NTFS    "), "identifies the file system"),
    sectorSize: at(11, u16, "bytes"),
    clusterSectors: at(13, u8, "sectors of a cluster; above 0x80 two to the power of 256 minus this"),
    zeros: at(14, reserved(7), "zero"),
    media: at(21, u8, "0xf8"),
    geometry: at(22, bytes(6), "sectors of a track, heads"),
    hiddenSectors: at(28, u32, "sectors before the partition"),
    zero: at(32, u32, "zero"),
    drive: at(36, bytes(4), "BIOS drive, flags"),
    sectors: at(40, count64, "sectors"),
    mftCluster: at(48, count64, "first cluster of the master file table"),
    mftMirrorCluster: at(56, count64, "first cluster of its mirror"),
    recordSize: at(64, u8, "clusters of a record; above 0x80 two to the power of 256 minus this, in bytes"),
    reserved1: at(65, reserved(3), "zero"),
    indexSize: at(68, u8, "clusters of an index block, as recordSize"),
    reserved2: at(69, reserved(3), "zero"),
    serial: at(72, u64, "serial number"),
    checksum: at(80, u32, "not used"),
    code: at(84, bytes(426), "boot code"),
    signature: at(510, bytes(2), "55 aa"),
  },
);

const FILE_RECORD = layout(
  "NTFS file record",
  { endian: "le", size: 48, spec: "Linux, fs/ntfs3/ntfs.h" },
  {
    magic: at(0, magic("FILE"), "identifies the record"),
    fixupOffset: at(4, u16, "bytes"),
    fixupCount: at(6, u16, "sectors plus one"),
    before: at(8, bytes(12), "log sequence, sequence, links"),
    firstAttribute: at(20, u16, "bytes"),
    after: at(22, bytes(26), "flags, sizes, base record"),
  },
);
const ATTRIBUTE = layout(
  "NTFS attribute, resident",
  { endian: "le", size: 24, spec: "Linux, fs/ntfs3/ntfs.h" },
  {
    type: at(0, u32, "0x60 is the volume's name, 0xffffffff ends the list"),
    length: at(4, u32, "bytes of the attribute"),
    nonResident: at(8, u8, "1 when the value lies elsewhere"),
    before: at(9, bytes(7), "name, flags, id"),
    valueLength: at(16, u32, "bytes"),
    valueOffset: at(20, u16, "bytes from the attribute's begin"),
    after: at(22, bytes(2), "flags"),
  },
);
const VOLUME_RECORD = 3;
const VOLUME_NAME = 0x60;

export async function identifyNtfs(device: BlockDevice): Promise<Filesystem | null> {
  const sector = await readAt(device, 0, NTFS_BOOT_SECTOR.size);
  if (!sector || Buffer.from(sector.subarray(3, 11)).toString("latin1") !== "NTFS    ") return null;
  const boot = NTFS_BOOT_SECTOR.decode(sector);
  const clusterSize =
    boot.clusterSectors > 0x80
      ? boot.sectorSize * 2 ** (256 - boot.clusterSectors)
      : boot.sectorSize * boot.clusterSectors;
  if (!isPowerOfTwo(boot.sectorSize, 256, 4096) || !isPowerOfTwo(clusterSize, boot.sectorSize, 2 ** 21)) return null;
  const recordSize = boot.recordSize > 0x80 ? 2 ** (256 - boot.recordSize) : boot.recordSize * clusterSize;
  const size = boot.sectors * boot.sectorSize;
  if (
    !isPowerOfTwo(recordSize, 512, 65536) ||
    !Number.isSafeInteger(boot.mftCluster * clusterSize) ||
    !Number.isSafeInteger(size)
  )
    return null;
  return {
    type: "ntfs",
    label: await volumeName(device, boot.mftCluster * clusterSize + VOLUME_RECORD * recordSize, recordSize),
    uuid: boot.serial.toString(16).toUpperCase().padStart(16, "0"),
    version: null,
    size,
    used: null,
    blockSize: clusterSize,
  };
}

async function volumeName(device: BlockDevice, offset: number, recordSize: number): Promise<string | null> {
  const record = await readAt(device, offset, recordSize);
  if (!record || Buffer.from(record.subarray(0, 4)).toString("latin1") !== "FILE") return null;
  let next = FILE_RECORD.decode(record).firstAttribute;
  while (next + ATTRIBUTE.size <= record.length) {
    const attribute = ATTRIBUTE.decode(record, next);
    const value = next + attribute.valueOffset;
    if (attribute.type === VOLUME_NAME && attribute.nonResident === 0 && value + attribute.valueLength <= record.length)
      return emptyToNull(Buffer.from(record.subarray(value, value + attribute.valueLength)).toString("utf16le"));
    if (attribute.type === 0xffff_ffff || attribute.length < ATTRIBUTE.size) return null;
    next += attribute.length;
  }
  return null;
}
