/**
 * A disk copied into a new file, or into a disk that exists.
 * A new file appears under its name only when all of it is there; with `force` it takes an old one's place in that moment.
 */

import { dirname, isAbsolute, relative } from "node:path";
import { compareDevices } from "../block/compare.js";
import { copyDevice } from "../block/copy.js";
import type { BlockDevice } from "../block/device.js";
import type { FileDevice } from "../block/file.js";
import { DiskError } from "../errors.js";
import type { Random } from "../filesystems/filesystem.js";
import { leadsTo, mayBeDisk, pathKind } from "../os/paths.js";
import { refuseCutMove } from "./cut-move.js";
import { type OpenDisk, type OpenDiskOptions, openDiskStack } from "./disk.js";
import { parseDiskName } from "./disk-name.js";
import { type FillOptions, fillImage } from "./fill-image.js";
import { type IdChange, renewIds } from "./new-ids.js";
import { diskSize, makeImage, type NewImage, type NewImageRequest } from "./new-image.js";

export type CopyMode = "auto" | "full" | "reflink" | "linked";

export interface CopyDiskOptions
  extends Pick<OpenDiskOptions, "paths" | "domainName">,
    Pick<NewImageRequest, "format" | "options" | "preallocation" | "backing" | "allowBacking" | "forceShare"> {
  /** `auto`: share blocks where the file system can, else copy; `reflink`: share or fail; `linked`: an overlay on the source. */
  readonly mode: CopyMode;
  /** Packed, by formats that can. */
  readonly compress?: boolean;
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
  readonly mode: Exclude<CopyMode, "auto">;
  /** Of the target. */
  readonly format: string;
  readonly size: number;
  /** Bytes that the new file takes; null when it is a disk that was there before. */
  readonly stored: number | null;
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
  refuseExisting(path, source, options);
  const linked = options.mode === "linked" ? { backing: await linkTo(source, path) } : {};
  const request = { ...options, ...linked, readBacking: options.mode !== "linked" };
  const { result, stored } = await makeImage(path, request, (image) => fill(source, image, options));
  return { target: path, size: source.device.size, stored, ...result };
}

type Filled = Pick<CopiedDisk, "mode" | "format" | "copied" | "ids">;

async function fill(source: OpenDisk, image: NewImage, options: CopyDiskOptions): Promise<Filled> {
  const { dryRun = false, newIds, verify: verified = false, signal } = options;
  const format = image.format.name;
  if (options.mode === "linked") {
    await image.format.create(image.file, diskSize(source.device.size), image.options);
    return { mode: "linked", format, copied: 0, ids: newIds && !dryRun ? await renewIn(image, newIds) : [] };
  }
  // Also in a dry run: nothing else tells whether it can be done.
  const reflinked = image.format.name === "raw" && (await reflinkInto(source, image.file, options));
  refuseReflink(source, reflinked, options);
  const mode = reflinked ? "reflink" : "full";
  if (dryRun) return { mode, format, copied: 0, ids: [] };
  const copied = reflinked ? 0 : await fillImage(source.device, image, fillOptions(options));
  if (verified && reflinked) await verify(source.device, image.file, signal);
  return { mode, format, copied, ids: newIds ? await renewIn(image, newIds) : [] };
}

function fillOptions(options: CopyDiskOptions): FillOptions {
  const { verify = false, durable = true, detectZeros = false, compress = false, signal, onProgress } = options;
  return {
    verify,
    compress,
    writeBehind: durable,
    detectZeros: detectZeros ? "always" : "auto",
    ...(signal ? { signal } : {}),
    ...(onProgress ? { onProgress } : {}),
  };
}

async function renewIn(image: NewImage, random: Random): Promise<readonly IdChange[]> {
  const device = await image.open();
  try {
    const ids = await renewIds(device, random);
    await device.flush();
    return ids;
  } finally {
    await device.close();
  }
}

/** What an overlay at `path` writes down about the source: a path from its own folder. */
async function linkTo(source: OpenDisk, path: string): Promise<{ name: string; format: string }> {
  const { file, device, whole, format } = source;
  if (!file || device !== whole)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot clone ${device.label} in mode linked: it is no whole image file, allowed auto and full`,
    );
  const name = isAbsolute(file.path) ? file.path : relative(dirname(path), file.path);
  return { name, format };
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
  return mayReflink(source, options) && source.file!.file.reflinkTo(copy.file);
}

function refuseReflink(source: OpenDisk, reflinked: boolean, { mode }: CopyDiskOptions): void {
  if (mode !== "reflink" || reflinked) return;
  const why =
    source.file && source.device === source.whole
      ? "the file system cannot share blocks between these files"
      : "only whole raw files can be shared";
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot clone ${source.device.label} by reflink: ${why}, allowed with --mode full`,
  );
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
  if (options.mode === "reflink" || options.mode === "linked")
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot clone to ${JSON.stringify(target)} in mode ${options.mode}: only new files can share blocks`,
    );
  refuseForExisting(target, options);
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
    if (options.dryRun)
      return {
        target,
        mode: "full",
        format: opened.format,
        size: source.device.size,
        stored: null,
        copied: 0,
        ids: [],
      };
    const { copied } = await copyDevice(source.device, device, {
      verify,
      ...(signal ? { signal } : {}),
      ...(onProgress ? { onProgress } : {}),
    }).catch((error: unknown) => {
      throw signal?.aborted ? halfCopied(device, error) : error;
    });
    await device.flush();
    const ids = options.newIds ? await renewIds(device, options.newIds) : [];
    return { target, mode: "full", format: opened.format, size: source.device.size, stored: null, copied, ids };
  } finally {
    await opened.device.close();
  }
}

/** What only a new image can have. */
function refuseForExisting(target: string, { compress, backing, options, preallocation }: CopyDiskOptions): void {
  const asked = compress ? "-c" : backing ? "-b" : options?.size || preallocation !== undefined ? "-o" : undefined;
  if (asked === undefined) return;
  throw new DiskError("UNSUPPORTED", `Cannot copy to ${JSON.stringify(target)} with ${asked}: it exists already`, {
    details: { usage: true },
  });
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
