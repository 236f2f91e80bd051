/**
 * A new UUID for XFS versions 4 and 5. In version 5 all metadata carries the UUID, so the old one stays there and the superblock
 * keeps it as metaUuid (feature meta_uuid, Linux 4.3), as `xfs_admin -U` does.
 *
 * Order: the UUID is taken out of the log's records, flush; superblocks of the groups from the last to the second, flush; the primary,
 * flush; the new UUID goes into the log's records, flush. Each write is one sector, and after each the file system mounts:
 * a log without UUID fits any superblock.
 *
 * Not supported: an external log, a log that waits to be replayed (it holds an old superblock), realtime groups, features we do not know.
 */
import type { BlockDevice } from "../../block/device.js";
import { crc32c } from "../../bytes/crc32c.js";
import { randomUuid, ZERO_GUID } from "../../bytes/guid.js";
import { DiskError } from "../../errors.js";
import { patchFields } from "../field-types.js";
import { type NewId, type Random, readAt } from "../filesystem.js";
import { readXfsSuperblock } from "./identify.js";
import { INCOMPAT, KNOWN_INCOMPAT, VERSION_MASK, XFS_SUPERBLOCK, type XfsSuperblock } from "./layout.js";
import { isLogClean, logRange, stampLog } from "./log.js";

export async function renewXfs(device: BlockDevice, random: Random): Promise<NewId> {
  const old = await readXfsSuperblock(device);
  if (!old) throw new DiskError("CORRUPT", `Cannot give ${device.label} a new UUID: it holds no XFS superblock`);
  const log = logRange(old);
  const reason = await refusal(device, old);
  if (reason || !log) throw new DiskError("UNSUPPORTED", `Cannot give ${device.label} a new UUID: ${reason}`);

  const uuid = randomUuid(random);
  await stampLog(device, old, log, ZERO_GUID);
  await device.flush();
  for (let group = old.groupCount - 1; group >= 0; group--) {
    if (group === 0) await device.flush();
    await renewCopy(device, old, uuid, group * old.groupBlocks * old.blockSize);
  }
  await device.flush();
  await stampLog(device, old, log, uuid);
  await device.flush();
  return { what: "xfs UUID", old: old.uuid, new: uuid };
}

async function refusal(device: BlockDevice, superblock: XfsSuperblock): Promise<string | undefined> {
  const version = superblock.version & VERSION_MASK;
  const log = logRange(superblock);
  if (version !== 4 && version !== 5) return `its version is ${version}, allowed 4 and 5`;
  if (!log) return "its log lies on another device";
  if (superblock.dataBlocks * superblock.blockSize > device.size)
    return `it has ${superblock.dataBlocks * superblock.blockSize} bytes, the disk ${device.size}`;
  if (log.offset + log.length > device.size)
    return `its log ends at byte ${log.offset + log.length}, the disk at ${device.size}`;
  const unknown = version === 5 ? superblock.featuresIncompat & ~KNOWN_INCOMPAT : 0;
  if (unknown) return `it has features that are not known here (0x${(unknown >>> 0).toString(16)})`;
  if (version === 5 && superblock.featuresIncompat & INCOMPAT.needsRepair)
    return "it has to be repaired first (xfs_repair)";
  if (!(await isLogClean(device, superblock, log)))
    return "its log has to be replayed first (mount and unmount it once)";
  return undefined;
}

async function renewCopy(device: BlockDevice, primary: XfsSuperblock, uuid: string, offset: number): Promise<void> {
  const sector = await readAt(device, offset, primary.sectorSize);
  if (!sector || Buffer.from(sector.subarray(0, 4)).toString("latin1") !== "XFSB") return;
  const copy = XFS_SUPERBLOCK.decode(sector);
  if (copy.uuid !== primary.uuid) return;
  patchFields(XFS_SUPERBLOCK, sector, 0, { uuid });
  if ((primary.version & VERSION_MASK) === 5) {
    if ((copy.featuresIncompat & INCOMPAT.metaUuid) === 0)
      patchFields(XFS_SUPERBLOCK, sector, 0, {
        metaUuid: primary.uuid,
        featuresIncompat: copy.featuresIncompat | INCOMPAT.metaUuid,
      });
    patchFields(XFS_SUPERBLOCK, sector, 0, { crc: new Uint8Array(4) });
    const crc = new Uint8Array(4);
    new DataView(crc.buffer).setUint32(0, crc32c(sector), true);
    patchFields(XFS_SUPERBLOCK, sector, 0, { crc });
  }
  await device.write(offset, sector);
}
