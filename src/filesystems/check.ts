/** What is wrong with a superblock. Nothing behind it is looked at: that is the file system's own check's work. */
import { byteGranular } from "../block/aligned.js";
import type { BlockDevice } from "../block/device.js";
import { superblockChecksum } from "./ext/checksum.js";
import { readExtSuperblock } from "./ext/identify.js";
import { EXT_SUPERBLOCK, RO_COMPAT, SUPERBLOCK_OFFSET } from "./ext/layout.js";
import { readAt } from "./filesystem.js";
import { identifyFilesystem } from "./identify.js";
import { FILESYSTEMS } from "./registry.js";

export interface SuperblockProblem {
  readonly level: "damage" | "note";
  readonly message: string;
}

/** Shorter signatures are found in any bytes now and then. */
const TELLING = 4;
const ERRORS_FOUND = 2;

export async function checkSuperblock(given: BlockDevice): Promise<SuperblockProblem[]> {
  const device = byteGranular(given);
  const found = await identifyFilesystem(device);
  if (!found) return unreadable(device);
  const problems: SuperblockProblem[] = [];
  if (found.size !== null && found.size > device.size)
    problems.push({
      level: "damage",
      message: `the ${found.type} file system has ${found.size} bytes, there are ${device.size}`,
    });
  if (/^ext[234]$/.test(found.type)) problems.push(...(await checkExt(device, found.type)));
  return problems;
}

async function checkExt(device: BlockDevice, type: string): Promise<SuperblockProblem[]> {
  const bytes = await readAt(device, SUPERBLOCK_OFFSET, EXT_SUPERBLOCK.size);
  const superblock = await readExtSuperblock(device);
  if (!bytes || !superblock) return [];
  const problems: SuperblockProblem[] = [];
  if (superblock.featureRoCompat & RO_COMPAT.metadataCsum && superblockChecksum(bytes) !== superblock.checksum)
    problems.push({ level: "damage", message: `the checksum of the ${type} superblock is wrong; e2fsck mends it` });
  if (superblock.state & ERRORS_FOUND)
    problems.push({ level: "note", message: `the ${type} file system knows of errors; e2fsck has not run since` });
  return problems;
}

/** A signature without a superblock that could be one; and an ext superblock of which only a copy is left. */
async function unreadable(device: BlockDevice): Promise<SuperblockProblem[]> {
  const problems: SuperblockProblem[] = [];
  for (const { name, signatures } of FILESYSTEMS)
    for (const [offset, text] of signatures) {
      if (text.length < TELLING || name.startsWith("LVM2")) continue;
      const bytes = await readAt(device, offset, text.length);
      if (bytes && Buffer.from(bytes).toString("latin1") === text)
        problems.push({
          level: "damage",
          message: `there is a ${name} signature at byte ${offset}, its superblock is damaged`,
        });
    }
  for (const [log, blocks] of [
    [0, 8193],
    [1, 16384],
    [2, 32768],
  ] as const) {
    const at = blocks * (1024 << log);
    const bytes = await readAt(device, at, EXT_SUPERBLOCK.size);
    if (bytes?.[56] !== 0x53 || bytes[57] !== 0xef) continue;
    const copy = EXT_SUPERBLOCK.decode(bytes);
    if (copy.logBlockSize === log && copy.groupNumber === 1)
      problems.push({
        level: "damage",
        message: `the ext superblock is gone, a copy is at block ${blocks}: e2fsck -b ${blocks} -B ${1024 << log}`,
      });
  }
  return problems;
}
