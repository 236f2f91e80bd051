/**
 * btrfs: superblock, and a new UUID for file systems of one device.
 * Btrfs wiki, On-disk format; Linux fs/btrfs/disk-io.h, include/uapi/linux/btrfs_tree.h.
 * All metadata carries the UUID, so the old one stays there and the superblock keeps it as metadataUuid (Linux 5.0), as `btrfstune -m` does.
 * Order: the mirrors from the last to the second, flush, the primary, flush. Mounting reads the primary only.
 * Not: file systems over several devices, checksums other than CRC-32C and SHA-256.
 */
import type { BlockDevice } from "../block/device.js";
import { crc32c } from "../bytes/crc32c.js";
import { bytes, count64, magic, reserved, u8, u16, u32, u64 } from "../bytes/field-types.js";
import { randomUuid, ZERO_GUID } from "../bytes/guid.js";
import { at, type Decoded, layout } from "../bytes/layout.js";
import { DiskError } from "../errors.js";
import { patchFields, utf8, uuid } from "./field-types.js";
import { emptyToNull, type Filesystem, isPowerOfTwo, type NewId, type Random, readAt } from "./filesystem.js";

export const BTRFS_SUPERBLOCK = layout(
  "btrfs superblock",
  { endian: "le", size: 4096, spec: "Linux, include/uapi/linux/btrfs_tree.h" },
  {
    checksum: at(0, bytes(32), "of the bytes after it"),
    uuid: at(32, uuid, "identity of the file system"),
    offset: at(48, u64, "byte offset of this copy"),
    flags: at(56, u64, "flags"),
    magic: at(64, magic("_BHRfS_M"), "identifies the superblock"),
    generation: at(72, u64, "transaction"),
    root: at(80, u64, "tree of roots"),
    chunkRoot: at(88, u64, "tree of chunks"),
    logRoot: at(96, u64, "tree of the log"),
    logTransaction: at(104, u64, "not used"),
    totalBytes: at(112, count64, "bytes of all devices"),
    usedBytes: at(120, count64, "bytes in use"),
    rootDirectory: at(128, u64, "object of the root directory"),
    devices: at(136, u64, "number of devices"),
    sectorSize: at(144, u32, "bytes of a block"),
    nodeSize: at(148, u32, "bytes of a tree node"),
    leafSize: at(152, u32, "as nodeSize"),
    stripeSize: at(156, u32, "bytes"),
    systemChunksSize: at(160, u32, "bytes in use of the system chunks"),
    chunkRootGeneration: at(164, u64, "transaction"),
    compat: at(172, u64, "features that others may ignore"),
    compatRo: at(180, u64, "features without which nobody may write"),
    incompat: at(188, u64, "features without which nobody may read"),
    checksumType: at(196, u16, "0 CRC-32C, 1 xxhash64, 2 SHA-256, 3 BLAKE2"),
    rootLevel: at(198, u8, "level of the tree"),
    chunkRootLevel: at(199, u8, "level of the tree"),
    logRootLevel: at(200, u8, "level of the tree"),
    device: at(201, bytes(98), "this device's item, which ends with metadataUuid"),
    label: at(299, utf8(256), "label"),
    cacheGeneration: at(555, u64, "transaction of the free space cache"),
    uuidTreeGeneration: at(563, u64, "transaction of the UUID tree"),
    metadataUuid: at(571, uuid, "UUID within metadata, when it is not the file system's"),
    reserved: at(587, reserved(224), "newer trees"),
    systemChunks: at(811, bytes(2048), "where the chunk tree lies"),
    rootBackups: at(2859, bytes(672), "roots of the last four transactions"),
    padding: at(3531, reserved(565), "zero"),
  },
);
type Superblock = Decoded<typeof BTRFS_SUPERBLOCK>;

/** Byte offsets of the copies; those that lie within the device exist. */
const COPIES = [64 * 1024, 64 * 1024 ** 2, 256 * 1024 ** 3] as const;
const METADATA_UUID = 1n << 10n;

export async function identifyBtrfs(device: BlockDevice): Promise<Filesystem | null> {
  const superblock = (await readCopy(device, COPIES[0]))?.superblock;
  if (!superblock) return null;
  return {
    type: "btrfs",
    label: emptyToNull(superblock.label),
    uuid: superblock.uuid,
    version: null,
    size: superblock.totalBytes,
    used: superblock.usedBytes,
    blockSize: superblock.sectorSize,
  };
}

export async function renewBtrfs(device: BlockDevice, random: Random): Promise<NewId> {
  const primary = (await readCopy(device, COPIES[0]))?.superblock;
  if (!primary) throw new DiskError("CORRUPT", `Cannot give ${device.label} a new UUID: it holds no btrfs superblock`);
  if (primary.devices !== 1n)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot give ${device.label} a new UUID: it is one of ${primary.devices} devices of its file system, allowed 1`,
    );
  if (primary.checksumType !== 0 && primary.checksumType !== 2)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot give ${device.label} a new UUID: its checksum type is ${primary.checksumType}, allowed 0 (CRC-32C) and 2 (SHA-256)`,
    );
  const renewed = randomUuid(random);
  for (const offset of COPIES.toReversed()) {
    if (offset === COPIES[0]) await device.flush();
    const copy = await readCopy(device, offset);
    if (copy?.superblock.uuid === primary.uuid)
      await device.write(offset, await renewCopy(copy.bytes, copy.superblock, renewed));
  }
  await device.flush();
  return { what: "btrfs UUID", old: primary.uuid, new: renewed };
}

async function renewCopy(bytes: Uint8Array, superblock: Superblock, renewed: string): Promise<Uint8Array> {
  const kept =
    (superblock.incompat & METADATA_UUID) === 0n
      ? { metadataUuid: superblock.uuid, incompat: superblock.incompat | METADATA_UUID }
      : {};
  patchFields(BTRFS_SUPERBLOCK, bytes, 0, { uuid: renewed, ...kept });
  const checksum = new Uint8Array(32);
  const covered = bytes.subarray(BTRFS_SUPERBLOCK.fields.uuid.offset);
  if (superblock.checksumType === 0) new DataView(checksum.buffer).setUint32(0, crc32c(covered), true);
  else checksum.set((await import("node:crypto")).createHash("sha256").update(covered).digest());
  patchFields(BTRFS_SUPERBLOCK, bytes, 0, { checksum });
  return bytes;
}

async function readCopy(
  device: BlockDevice,
  offset: number,
): Promise<{ bytes: Uint8Array; superblock: Superblock } | null> {
  const bytes = await readAt(device, offset, BTRFS_SUPERBLOCK.size);
  if (!bytes || Buffer.from(bytes.subarray(64, 72)).toString("latin1") !== "_BHRfS_M") return null;
  const superblock = BTRFS_SUPERBLOCK.decode(bytes);
  const possible =
    isPowerOfTwo(superblock.sectorSize, 4096, 65536) &&
    superblock.usedBytes <= superblock.totalBytes &&
    superblock.uuid !== ZERO_GUID;
  return possible ? { bytes, superblock } : null;
}
