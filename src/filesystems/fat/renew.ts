/**
 * A new volume ID for FAT12, FAT16 and FAT32.
 * Order: the backup boot sector (FAT32), flush, the boot sector, flush. Each is one sector; what counts is the boot sector.
 */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { patchFields } from "../field-types.js";
import { type NewId, type Random, readAt } from "../filesystem.js";
import { formatVolumeId, readFatVolume } from "./identify.js";
import { FAT16_EXTENSION, FAT32_EXTENSION, type FatVolume } from "./layout.js";

export async function renewFat(device: BlockDevice, random: Random): Promise<NewId> {
  const volume = await readFatVolume(device);
  if (!volume)
    throw new DiskError("CORRUPT", `Cannot give ${device.label} a new volume ID: it holds no FAT boot sector`);
  const { signature, volumeId: old } = volume.second;
  if (signature !== 0x28 && signature !== 0x29)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot give ${device.label} a new volume ID: its boot sector has none (boot signature 0x${signature.toString(16)})`,
    );
  const bytes = random(4);
  const volumeId = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const backup = volume.second.backupSector ?? 0;
  if (backup > 0 && backup < volume.boot.reservedSectors) {
    await renewCopy(device, volume, old, volumeId, backup * volume.boot.sectorSize);
    await device.flush();
  }
  await renewCopy(device, volume, old, volumeId, 0);
  await device.flush();
  return { what: `${volume.kind} volume ID`, old: formatVolumeId(old), new: formatVolumeId(volumeId) };
}

async function renewCopy(
  device: BlockDevice,
  volume: FatVolume,
  old: number,
  volumeId: number,
  offset: number,
): Promise<void> {
  const table = volume.kind === "FAT32" ? FAT32_EXTENSION : FAT16_EXTENSION;
  const sector = await readAt(device, offset, volume.boot.sectorSize);
  if (sector?.[510] !== 0x55 || sector[511] !== 0xaa) return;
  const copy = volume.kind === "FAT32" ? FAT32_EXTENSION.decode(sector, 36) : FAT16_EXTENSION.decode(sector, 36);
  if (copy.volumeId !== old) return; // a stale copy of something else
  patchFields<typeof FAT16_EXTENSION.fields>(table as typeof FAT16_EXTENSION, sector, 36, { volumeId });
  await device.write(offset, sector);
}
