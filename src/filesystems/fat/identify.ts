/** FAT12, FAT16 and FAT32 by their boot sector. The count of clusters alone tells them apart (Microsoft FAT specification, 3.5). */
import type { BlockDevice } from "../../block/device.js";
import { emptyToNull, type Filesystem, isPowerOfTwo, readAt } from "../filesystem.js";
import {
  FAT_BOOT_SECTOR,
  FAT_DIRECTORY_ENTRY,
  FAT_INFO,
  FAT16_EXTENSION,
  FAT32_EXTENSION,
  type FatVolume,
} from "./layout.js";

export async function identifyFat(device: BlockDevice): Promise<Filesystem | null> {
  const volume = await readFatVolume(device);
  if (!volume) return null;
  const label = (await rootLabel(device, volume)) ?? bootLabel(volume);
  const free = await freeClusters(device, volume);
  return {
    type: "vfat",
    label,
    uuid:
      volume.second.signature === 0x28 || volume.second.signature === 0x29
        ? formatVolumeId(volume.second.volumeId)
        : null,
    version: volume.kind,
    size: volume.sectors * volume.boot.sectorSize,
    used: free === null ? null : (volume.clusters - free) * volume.clusterSize,
    blockSize: volume.clusterSize,
  };
}

/** `1A2B-3C4D`. */
export function formatVolumeId(id: number): string {
  const digits = id.toString(16).toUpperCase().padStart(8, "0");
  return `${digits.slice(0, 4)}-${digits.slice(4)}`;
}

/** Null when the first sector is no FAT boot sector, or its numbers cannot be. An MBR fails here: its code is no BIOS parameter block. */
export async function readFatVolume(device: BlockDevice): Promise<FatVolume | null> {
  const sector = await readAt(device, 0, 512);
  if (sector?.[510] !== 0x55 || sector[511] !== 0xaa || (sector[0] !== 0xeb && sector[0] !== 0xe9)) return null;
  const boot = FAT_BOOT_SECTOR.decode(sector);
  if (!isPowerOfTwo(boot.sectorSize, 512, 4096) || !isPowerOfTwo(boot.clusterSectors, 1, 128)) return null;
  if (boot.fats === 0 || boot.reservedSectors === 0 || !(boot.media === 0xf0 || boot.media >= 0xf8)) return null;
  const wide = boot.fatSectors16 === 0;
  const second = wide ? FAT32_EXTENSION.decode(sector, 36) : FAT16_EXTENSION.decode(sector, 36);
  const fatSectors = wide ? FAT32_EXTENSION.decode(sector, 36).fatSectors : boot.fatSectors16;
  const sectors = boot.sectors16 || boot.sectors32;
  const rootSectors = Math.ceil((boot.rootEntries * 32) / boot.sectorSize);
  const rootSector = boot.reservedSectors + boot.fats * fatSectors;
  const clusters = Math.floor((sectors - rootSector - rootSectors) / boot.clusterSectors);
  if (fatSectors === 0 || clusters < 1 || (!wide && (boot.rootEntries === 0 || clusters >= 65525))) return null;
  return {
    kind: wide ? "FAT32" : clusters < 4085 ? "FAT12" : "FAT16",
    boot,
    second,
    sectors,
    fatSectors,
    clusters,
    clusterSize: boot.clusterSectors * boot.sectorSize,
    fatOffset: boot.reservedSectors * boot.sectorSize,
    rootOffset: rootSector * boot.sectorSize,
    dataOffset: (rootSector + rootSectors) * boot.sectorSize,
  };
}

/** Bytes of the root directory that are looked at for a label. */
const ROOT_LIMIT = 1 << 20;

/** The label as Windows and Linux keep it: an entry of the root directory. */
async function rootLabel(device: BlockDevice, volume: FatVolume): Promise<string | null> {
  for await (const part of rootDirectory(device, volume)) {
    for (let offset = 0; offset + FAT_DIRECTORY_ENTRY.size <= part.length; offset += FAT_DIRECTORY_ENTRY.size) {
      const entry = FAT_DIRECTORY_ENTRY.decode(part, offset);
      if (entry.name[0] === 0) return null;
      if (entry.name[0] !== 0xe5 && (entry.attributes & 0x3f) !== 0x0f && (entry.attributes & 0x18) === 0x08)
        return labelText(entry.name);
    }
  }
  return null;
}

async function* rootDirectory(device: BlockDevice, volume: FatVolume): AsyncGenerator<Uint8Array> {
  if (volume.kind !== "FAT32") {
    const bytes = await readAt(device, volume.rootOffset, volume.boot.rootEntries * FAT_DIRECTORY_ENTRY.size);
    if (bytes) yield bytes;
    return;
  }
  let cluster = volume.second.rootCluster!;
  for (let read = 0; read < ROOT_LIMIT && cluster >= 2 && cluster < volume.clusters + 2; read += volume.clusterSize) {
    const bytes = await readAt(device, volume.dataOffset + (cluster - 2) * volume.clusterSize, volume.clusterSize);
    const next = await readAt(device, volume.fatOffset + cluster * 4, 4);
    if (!bytes || !next) return;
    yield bytes;
    cluster = new DataView(next.buffer, next.byteOffset).getUint32(0, true) & 0x0fff_ffff; // the highest four bits are reserved
  }
}

function bootLabel(volume: FatVolume): string | null {
  const label = volume.second.signature === 0x29 ? labelText(volume.second.label) : null;
  return label === "NO NAME" ? null : label;
}

function labelText(bytes: Uint8Array): string | null {
  return emptyToNull(
    Buffer.from(bytes)
      .toString("latin1")
      .replace(/[\0 ]+$/, ""),
  );
}

async function freeClusters(device: BlockDevice, volume: FatVolume): Promise<number | null> {
  if (volume.kind === "FAT32") return freeOfInfo(device, volume);
  const entryBits = volume.kind === "FAT12" ? 12 : 16;
  const fat = await readAt(device, volume.fatOffset, Math.ceil(((volume.clusters + 2) * entryBits) / 8));
  if (!fat) return null;
  let free = 0;
  for (let cluster = 2; cluster < volume.clusters + 2; cluster++) {
    const byte = Math.floor((cluster * entryBits) / 8);
    const word = fat[byte]! | ((fat[byte + 1] ?? 0) << 8);
    const entry = entryBits === 16 ? word : cluster % 2 === 0 ? word & 0xfff : word >> 4;
    if (entry === 0) free++;
  }
  return free;
}

async function freeOfInfo(device: BlockDevice, volume: FatVolume): Promise<number | null> {
  const bytes = await readAt(device, volume.second.infoSector! * volume.boot.sectorSize, FAT_INFO.size);
  if (!bytes || Buffer.from(bytes.subarray(0, 4)).toString("latin1") !== "RRaA") return null;
  const free = new DataView(bytes.buffer, bytes.byteOffset).getUint32(FAT_INFO.fields.freeClusters.offset, true);
  return free <= volume.clusters ? free : null;
}
