/**
 * A new UUID for ext2, ext3 and ext4.
 *
 * ext4's metadata checksums all begin with the UUID. Instead of rewriting every inode, directory and bitmap, the raw CRC of the
 * old UUID is kept in the superblock (metadata_csum_seed), as `tune2fs -O metadata_csum_seed -U` does: Linux 4.4, e2fsprogs 1.43
 * and GRUB 2.12 know that. The older uninit_bg checksums of group descriptors have no such seed and are computed anew.
 *
 * Order: all backups, flush, descriptors of uninit_bg, the primary superblock, flush. The primary is what everybody reads, so a cut
 * before its write leaves the old identity and one within it a backup with the new one; only with uninit_bg can a cut leave
 * descriptor checksums that `e2fsck -fy` has to compute again.
 *
 * Not supported: an external journal (the journal's device names its users), a journal that waits to be replayed (it holds an
 * old superblock), stable_inodes (encryption keys are derived from the UUID), checksums other than CRC-32C.
 */
import type { BlockDevice } from "../../block/device.js";
import { randomUuid } from "../../bytes/guid.js";
import { DiskError } from "../../errors.js";
import { patchFields } from "../field-types.js";
import { type NewId, type Random, readAt } from "../filesystem.js";
import { seedOf, setDescriptorChecksum, superblockChecksum } from "./checksum.js";
import { backupGroups, descriptorBlocks, superblockOffset } from "./geometry.js";
import { identifyExt } from "./identify.js";
import {
  blockSizeOf,
  COMPAT,
  descriptorSizeOf,
  EXT_SUPERBLOCK,
  type ExtSuperblock,
  INCOMPAT,
  RO_COMPAT,
  SUPERBLOCK_OFFSET,
} from "./layout.js";

const ZERO_UUID = "00000000-0000-0000-0000-000000000000";

export async function renewExt(device: BlockDevice, random: Random): Promise<NewId> {
  const found = await identifyExt(device);
  const bytes = await readAt(device, SUPERBLOCK_OFFSET, EXT_SUPERBLOCK.size);
  if (!found || !bytes)
    throw new DiskError("CORRUPT", `Cannot give ${device.label} a new UUID: it holds no ext superblock`);
  const old = EXT_SUPERBLOCK.decode(bytes);
  refuse(device, old, bytes);

  const uuid = randomUuid(random);
  const seeded = needsSeed(old);
  for (const group of backupGroups(old)) await renewCopy(device, old, uuid, superblockOffset(old, group));
  await device.flush();
  if (hasDescriptorChecksums(old)) await renewDescriptors(device, old, uuid);
  await renewCopy(device, old, uuid, SUPERBLOCK_OFFSET);
  await device.flush();
  const note = "the file system has the feature metadata_csum_seed now: Linux 4.4 and GRUB 2.12 or later can read it";
  return { what: `${found.type} UUID`, old: old.uuid, new: uuid, ...(seeded ? { note } : {}) };
}

function refuse(device: BlockDevice, superblock: ExtSuperblock, bytes: Uint8Array): void {
  const { featureCompat, featureIncompat, featureRoCompat } = superblock;
  const checksummed = (featureRoCompat & RO_COMPAT.metadataCsum) !== 0;
  const external =
    featureCompat & COMPAT.hasJournal && superblock.journalInode === 0 && superblock.journalUuid !== ZERO_UUID;
  const reason =
    featureIncompat & INCOMPAT.journalDevice
      ? "it is an external journal, which its file systems know by this UUID"
      : external
        ? "its journal lies on another device, which knows it by this UUID"
        : featureCompat & COMPAT.stableInodes
          ? "it has stable_inodes, so encrypted files depend on the UUID"
          : featureIncompat & INCOMPAT.recover
            ? "its journal has to be replayed first (mount it once, or run e2fsck)"
            : featureIncompat & INCOMPAT.eaInode && !checksummed
              ? "it has ea_inode without metadata_csum, so extended attributes depend on the UUID"
              : checksummed && superblock.checksumType !== 1
                ? `its checksum type is ${superblock.checksumType}, allowed 1 (CRC-32C)`
                : undefined;
  if (reason) throw new DiskError("UNSUPPORTED", `Cannot give ${device.label} a new UUID: ${reason}`);
  if (checksummed && superblockChecksum(bytes) !== superblock.checksum)
    throw new DiskError(
      "CORRUPT",
      `Cannot give ${device.label} a new UUID: the superblock's checksum is wrong (byte ${SUPERBLOCK_OFFSET + 0x3fc}), e2fsck repairs it`,
    );
}

function needsSeed(superblock: ExtSuperblock): boolean {
  return (
    (superblock.featureRoCompat & RO_COMPAT.metadataCsum) !== 0 &&
    (superblock.featureIncompat & INCOMPAT.csumSeed) === 0
  );
}

/** uninit_bg without metadata_csum: with both, metadata_csum's checksums stand in the descriptors. */
function hasDescriptorChecksums(superblock: ExtSuperblock): boolean {
  return (
    (superblock.featureRoCompat & RO_COMPAT.gdtCsum) !== 0 &&
    (superblock.featureRoCompat & RO_COMPAT.metadataCsum) === 0
  );
}

/** Changes one copy of the superblock. A place without a copy of this file system's superblock is left alone. */
async function renewCopy(device: BlockDevice, primary: ExtSuperblock, uuid: string, offset: number): Promise<void> {
  const bytes = await readAt(device, offset, EXT_SUPERBLOCK.size);
  const magic = EXT_SUPERBLOCK.fields.magic.offset;
  if (bytes?.[magic] !== 0x53 || bytes[magic + 1] !== 0xef) return;
  const copy = EXT_SUPERBLOCK.decode(bytes);
  if (copy.uuid !== primary.uuid) return;
  patchFields(EXT_SUPERBLOCK, bytes, 0, { uuid });
  if (needsSeed(primary))
    patchFields(EXT_SUPERBLOCK, bytes, 0, {
      featureIncompat: copy.featureIncompat | INCOMPAT.csumSeed,
      checksumSeed: seedOf(primary.uuid),
    });
  if (primary.featureRoCompat & RO_COMPAT.metadataCsum)
    patchFields(EXT_SUPERBLOCK, bytes, 0, { checksum: superblockChecksum(bytes) });
  await device.write(offset, bytes);
}

async function renewDescriptors(device: BlockDevice, superblock: ExtSuperblock, uuid: string): Promise<void> {
  const size = descriptorSizeOf(superblock);
  for (const block of descriptorBlocks(superblock)) {
    const bytes = await readAt(device, block.offset, blockSizeOf(superblock));
    if (!bytes) continue; // a truncated image: e2fsck will tell
    for (let i = 0; i < block.groups; i++)
      setDescriptorChecksum(bytes.subarray(i * size, (i + 1) * size), uuid, block.firstGroup + i);
    await device.write(block.offset, bytes);
  }
}
