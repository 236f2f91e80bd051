/** What lies on a device, told from superblocks only. */
import { byteGranular } from "../block/aligned.js";
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { type Filesystem, type FilesystemDriver, type NewId, type Random, readAt } from "./filesystem.js";
import { FILESYSTEMS, type Signature } from "./registry.js";

/** Null when nothing is known. Reads a few KiB, for FAT its tables: at most a few hundred. */
export async function identifyFilesystem(device: BlockDevice): Promise<Filesystem | null> {
  return (await findFilesystem(byteGranular(device)))?.filesystem ?? null;
}

/**
 * Gives the file system on `device` a new UUID (FAT: volume ID), in the order of writes that its driver documents, and flushes.
 * Null when there is no file system, or one of a kind that keeps its id. Throws `UNSUPPORTED` when this one cannot get a new one now;
 * nothing has been written then.
 */
export async function newFilesystemId(device: BlockDevice, random: Random): Promise<NewId | null> {
  const bytes = byteGranular(device);
  const found = await findFilesystem(bytes);
  return found?.driver.renew ? found.driver.renew(bytes, random) : null;
}

async function findFilesystem(
  device: BlockDevice,
): Promise<{ driver: FilesystemDriver; filesystem: Filesystem } | null> {
  if (await isEmpty(device)) return null;
  const head = (await readAt(device, 0, Math.min(HEAD, device.size))) ?? new Uint8Array();
  for (const kind of FILESYSTEMS) {
    if (!(await hasSignature(device, head, kind.signatures))) continue;
    const driver = await kind.load();
    const filesystem = await identifyWith(driver, device);
    if (filesystem) return { driver, filesystem };
  }
  return null;
}

/** Nothing is stored where signatures lie: so it is for most partitions of a new sparse disk, and one question tells it. */
async function isEmpty(device: BlockDevice): Promise<boolean> {
  const length = Math.min(SIGNATURES_END, device.size);
  for await (const extent of device.extents(0, length)) return extent.zero && extent.length === length;
  return true;
}

const SIGNATURES_END = Math.max(
  ...FILESYSTEMS.flatMap(({ signatures }) => signatures.map(([offset, text]) => offset + text.length)),
);

/** Read at once; most signatures lie here. */
const HEAD = 4096;

async function hasSignature(device: BlockDevice, head: Uint8Array, signatures: readonly Signature[]): Promise<boolean> {
  for (const [offset, text] of signatures) {
    const inHead = offset + text.length <= head.length;
    const bytes = inHead ? head.subarray(offset, offset + text.length) : await readAt(device, offset, text.length);
    if (bytes && Buffer.from(bytes).toString("latin1") === text) return true;
  }
  return false;
}

/** A superblock whose numbers cannot be is none: the same bytes may be something else. */
async function identifyWith(driver: FilesystemDriver, device: BlockDevice): Promise<Filesystem | null> {
  try {
    return await driver.identify(device);
  } catch (error) {
    if (error instanceof DiskError && error.code === "CORRUPT") return null;
    throw error;
  }
}
