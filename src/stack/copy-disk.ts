/**
 * A disk copied into a new file, or into a disk that exists.
 * A new file appears under its name only when all of it is there; with `force` it takes an old one's place in that moment.
 */

import { compareDevices } from "../block/compare.js";
import { copyDevice } from "../block/copy.js";
import type { BlockDevice } from "../block/device.js";
import { type FileDevice, fileDevice } from "../block/file.js";
import { DiskError } from "../errors.js";
import type { Random } from "../filesystems/filesystem.js";
import { chooseFormat } from "../formats/registry.js";
import { leadsTo, mayBeDisk, pathKind } from "../os/paths.js";
import { createStaged } from "../os/staged.js";
import { refuseCutMove } from "./cut-move.js";
import { type OpenDisk, type OpenDiskOptions, openDiskStack } from "./disk.js";
import { parseDiskName } from "./disk-name.js";
import { type IdChange, renewIds } from "./new-ids.js";

export type CopyMode = "auto" | "full" | "reflink";

export interface CopyDiskOptions extends Pick<OpenDiskOptions, "paths" | "domainName"> {
  /** `auto`: share blocks where the file system can, else copy; `reflink`: share or fail. */
  readonly mode: CopyMode;
  /** Format of a new file; default by its name. */
  readonly format?: string;
  /** Replace a file, write into a disk. */
  readonly force?: boolean;
  /** Compare after the copy. */
  readonly verify?: boolean;
  /** Given: the copy gets new identities, with these random numbers. */
  readonly newIds?: Random;
  /** False: a new file is not waited for until it is on the disk. Default true. */
  readonly durable?: boolean;
  /** Look for zeros within data too, also where the kernel could copy by itself. */
  readonly detectZeros?: boolean;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface CopiedDisk {
  readonly target: string;
  readonly mode: "full" | "reflink";
  readonly size: number;
  /** Bytes of data that were copied; 0 for a reflink. */
  readonly copied: number;
  readonly ids: readonly IdChange[];
}

/** Copies `source`, which stays open, to the disk that `target` names. */
export async function copyDisk(source: OpenDisk, target: string, options: CopyDiskOptions): Promise<CopiedDisk> {
  const { base, part } = parseDiskName(target, mayBeDisk);
  const isFile = base.kind === "file" && part === null && pathKind(base.path) !== "block";
  return isFile ? copyToFile(source, base.path, options) : copyIntoDisk(source, target, options);
}

async function copyToFile(source: OpenDisk, path: string, options: CopyDiskOptions): Promise<CopiedDisk> {
  chooseFormat(path, options.format);
  refuseExisting(path, source, options);
  const staged = await createStaged(path, { force: options.force ?? false, durable: options.durable ?? true });
  const copy = fileDevice(staged.file, { own: false });
  try {
    const reflinked = await reflinkInto(source, copy, options); // also in a dry run: nothing else tells whether it can be done
    if (options.dryRun) {
      await staged.abort();
      return { target: path, mode: reflinked ? "reflink" : "full", size: source.device.size, copied: 0, ids: [] };
    }
    const { copied } = reflinked ? { copied: 0 } : await fillNewFile(source.device, copy, options);
    if (options.verify && reflinked) await verify(source.device, copy, options.signal);
    const ids = options.newIds ? await renewIds(copy, options.newIds) : [];
    options.signal?.throwIfAborted();
    const result: CopiedDisk = {
      target: path,
      mode: reflinked ? "reflink" : "full",
      size: source.device.size,
      copied,
      ids,
    };
    await copy.close();
    await staged.commit();
    return result;
  } catch (error) {
    await staged.abort();
    throw error;
  }
}

async function fillNewFile(
  source: BlockDevice,
  copy: FileDevice,
  options: CopyDiskOptions,
): Promise<{ copied: number }> {
  await copy.resize(source.size);
  const { verify = false, durable = true, detectZeros = false, signal, onProgress } = options;
  return copyDevice(source, copy, {
    targetIsZero: true,
    verify,
    writeBehind: durable,
    detectZeros: detectZeros ? "always" : "auto",
    ...(signal ? { signal } : {}),
    ...(onProgress ? { onProgress } : {}),
  });
}

/** Staging refuses an existing file too, but a disk must not replace the file it is read from. */
function refuseExisting(path: string, source: OpenDisk, { force = false }: CopyDiskOptions): void {
  const kind = pathKind(path);
  if (kind === "directory") throw new DiskError("DENIED", `Cannot create "${path}": it is a directory`);
  if (kind !== null && !force)
    throw new DiskError("DENIED", `Cannot create "${path}": it exists already, allowed with --force`, {
      details: { path, exists: true },
    });
  if (kind === "file") refuseCutMove(path, `replace ${JSON.stringify(path)}`);
  if (kind === "file" && source.file && leadsTo(path, source.file.file.identity))
    throw new DiskError("DENIED", `Cannot copy ${source.device.label} to "${path}": they are the same file`);
}

async function reflinkInto(source: OpenDisk, copy: FileDevice, options: CopyDiskOptions): Promise<boolean> {
  if (mayReflink(source, options) && (await source.file!.file.reflinkTo(copy.file))) return true;
  if (options.mode === "reflink") {
    const why =
      source.file && source.device === source.whole
        ? "the file system cannot share blocks between these files"
        : "only whole raw files can be shared";
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot clone ${source.device.label} by reflink: ${why}, allowed with --mode full`,
    );
  }
  return false;
}

function mayReflink(source: OpenDisk, { mode }: CopyDiskOptions): boolean {
  return (
    mode !== "full" &&
    source.file !== null &&
    source.format === "raw" &&
    source.device === source.whole &&
    !source.file.file.isBlockDevice
  );
}

async function copyIntoDisk(source: OpenDisk, target: string, options: CopyDiskOptions): Promise<CopiedDisk> {
  if (options.mode === "reflink")
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot clone to ${JSON.stringify(target)} by reflink: only new files can share blocks`,
    );
  refuseSameFile(source, target);
  const { format, paths, domainName, verify = false, signal, onProgress } = options;
  const opened = await openDiskStack(target, {
    writable: !options.dryRun,
    ...(format ? { format } : {}),
    ...(paths ? { paths } : {}),
    ...(domainName ? { domainName } : {}),
  });
  try {
    const { device } = opened;
    if (device.size < source.device.size)
      throw new DiskError(
        "NO_SPACE",
        `Cannot copy ${source.device.label} to ${device.label}: its size is ${source.device.size} bytes, the target is too small with ${device.size}`,
      );
    if (!options.force)
      throw new DiskError("DENIED", `Cannot overwrite ${device.label}: it exists already, allowed with --force`, {
        details: { exists: true },
      });
    if (options.dryRun) return { target, mode: "full", size: source.device.size, copied: 0, ids: [] };
    const { copied } = await copyDevice(source.device, device, {
      verify,
      ...(signal ? { signal } : {}),
      ...(onProgress ? { onProgress } : {}),
    }).catch((error: unknown) => {
      throw signal?.aborted ? halfCopied(device, error) : error;
    });
    await device.flush();
    const ids = options.newIds ? await renewIds(device, options.newIds) : [];
    return { target, mode: "full", size: source.device.size, copied, ids };
  } finally {
    await opened.device.close();
  }
}

/** The lock would refuse it too, but name this very process as the one in the way. */
function refuseSameFile(source: OpenDisk, target: string): void {
  const { base } = parseDiskName(target, mayBeDisk);
  if (base.kind === "file" && source.file && leadsTo(base.path, source.file.file.identity))
    throw new DiskError(
      "DENIED",
      `Cannot copy ${source.device.label} to ${JSON.stringify(target)}: both lie in one file, allowed by way of another one`,
    );
}

function halfCopied(device: BlockDevice, cause: unknown): DiskError {
  return new DiskError("IO", `${device.label} holds old and new bytes side by side`, {
    details: { interrupted: true },
    cause,
  });
}

async function verify(source: BlockDevice, copy: BlockDevice, signal?: AbortSignal): Promise<void> {
  const { firstDifference } = await compareDevices(source, copy, { strict: true, ...(signal ? { signal } : {}) });
  if (firstDifference !== null)
    throw new DiskError("IO", `Cannot verify ${copy.label}: byte ${firstDifference} is not what ${source.label} has`);
}
