/**
 * From a disk's name to a device: the file, network or domain device beneath, its format, and the part of it that is meant.
 * What an image names inside itself is opened by open-gate.ts only.
 */

import { join } from "node:path";
import type { BlockDevice } from "../block/device.js";
import type { FileDevice } from "../block/file.js";
import { DiskError } from "../errors.js";
import type { ImageDevice } from "../formats/format.js";
import { mayBeDisk, pathExists } from "../os/paths.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import { type DiskName, parseDiskName } from "./disk-name.js";
import type { KeptVolume } from "./lvm/open-volume.js";

export interface OpenDiskOptions {
  readonly writable?: boolean;
  /** Name of the image format; default: chosen by the file's extension (formats/registry.ts). */
  readonly format?: string;
  /** Read although somebody else writes. */
  readonly forceShare?: boolean;
  /** Only some part of the disk is used: share it with users of other parts, not with those of all of it. */
  readonly shared?: boolean;
  /** Open for writing although a partition's move was cut: to finish it. */
  readonly moving?: boolean;
  /** Follow files that an image names, all of them or those that the user named too. Raw images name none. */
  readonly allowBacking?: boolean;
  readonly named?: readonly string[];
  /** Look at the image alone: what it takes from files that it names cannot be read. */
  readonly sealed?: boolean;
  /** Read and write past the host's page cache; image files and block devices of this host only. */
  readonly direct?: boolean;
  /** Needed for `dom:` names. */
  readonly paths?: XvdPaths;
  /** The name of the running domain with an id, which only the daemon knows; null when there is none. */
  readonly domainName?: (domid: number) => Promise<string | null>;
  /** A volume that was open before, with its lock: it is opened anew, by its id. */
  readonly keptVolume?: KeptVolume;
  /** Told to people: what happened to a disk that its users do not see (a snapshot that overflows). */
  readonly warn?: (text: string) => void;
}

/** An open disk with what it was opened from. */
export interface OpenDisk {
  readonly name: DiskName;
  /** What the name means: a whole disk, or the part of it. Closing it closes everything beneath. */
  readonly device: BlockDevice;
  /** The whole disk; the same as `device` when no part was named. */
  readonly whole: BlockDevice;
  /** Of the whole disk; `raw` for network disks. */
  readonly format: string;
  /** The image file, when there is one on this host. */
  readonly file: FileDevice | null;
  /** The whole disk with what its format tells of it; null when there is no image file. */
  readonly image: ImageDevice | null;
  /** Bytes from the begin of the whole disk, when the part is one run of it. */
  readonly offset: number | null;
  /** Of the partition table in which the part was found. */
  readonly sectorSize: 512 | 4096 | null;
}

export async function openDisk(text: string, options: OpenDiskOptions = {}): Promise<BlockDevice> {
  return (await openDiskStack(text, options)).device;
}

/** As `openDisk`, but tells the layers too. */
export async function openDiskStack(text: string, options: OpenDiskOptions = {}): Promise<OpenDisk> {
  const name = parseDiskName(text, mayBeDisk);
  const isVolume = name.part?.kind === "volume";
  const whole = await openBase(name, isVolume ? { ...options, shared: true } : options);
  if (!name.part) return { ...whole, name, device: whole.whole, offset: 0, sectorSize: null };
  try {
    return { ...whole, name, ...(await openPart(name, whole.whole, options)) };
  } catch (error) {
    await whole.whole.close();
    throw error;
  }
}

type OpenBase = Pick<OpenDisk, "whole" | "format" | "file" | "image">;

async function openBase({ text, base }: DiskName, options: OpenDiskOptions): Promise<OpenBase> {
  if (options.direct && base.kind !== "file")
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot open ${JSON.stringify(text)} for direct access: it is no file of this host, allowed are image files and block devices`,
    );
  switch (base.kind) {
    case "file":
      return (await import("./open-image.js")).openImage(base.path, options);
    case "nbd":
      return network(base.uri, options);
    case "domain":
      return openAttached(text, base, options);
    case "volume": {
      const { openRegisteredVolume } = await import("./lvm/open-volume.js");
      return {
        whole: await openRegisteredVolume(openDiskStack, text.replace(/#p\d+$/, ""), base, options),
        format: "raw",
        file: null,
        image: null,
      };
    }
    case "backup":
      throw notYet(text, "disks within backups");
  }
}

async function network(uri: string, { writable = false }: OpenDiskOptions): Promise<OpenBase> {
  const { connectNbd } = await import("../nbd/client.js");
  return { whole: await connectNbd(uri, { readOnly: !writable }), format: "raw", file: null, image: null };
}

async function openAttached(
  text: string,
  { domain, vdev }: { domain: string; vdev: string },
  options: OpenDiskOptions,
): Promise<OpenBase> {
  if (!options.paths) throw new TypeError(`Cannot open ${text}: paths are needed for devices of domains`);
  const name = await nameOfDomain(text, domain, options);
  const socket = deviceSocket(options.paths, name, vdev);
  const whole = deviceSocket(options.paths, name, vdev.replace(/\d+$/, ""));
  if (!pathExists(socket) && !(pathExists(whole) && (await appears(socket))))
    throw new DiskError(
      "NOT_FOUND",
      `Cannot open ${JSON.stringify(text)}: domain ${domain} has no device ${vdev}, 'xvd list' shows what is attached (${socket})`,
      {
        details: { domain, vdev },
      },
    );
  const base = await network(`nbd+unix:///?socket=${encodeURIComponent(socket)}`, options).catch((error: DiskError) => {
    const refused = (error.cause as NodeJS.ErrnoException | undefined)?.code === "ECONNREFUSED";
    if (!refused) throw error;
    const found = "the Dom0 that had it is not running any more, 'xvd dom0 start' starts a new one";
    throw new DiskError("NOT_FOUND", `Cannot open ${JSON.stringify(text)}: ${found}`, {
      details: { domain, vdev },
      cause: error,
    });
  });
  Object.defineProperty(base.whole, "label", { value: `dom:${name}/${vdev}` }); // messages name the disk as the user did
  return base;
}

/** A partition that was made a moment ago: its socket comes when the guest has read the table again. */
async function appears(socket: string): Promise<boolean> {
  for (let tries = 0; tries < 25 && !pathExists(socket); tries++)
    await new Promise((resolve) => setTimeout(resolve, 20));
  return pathExists(socket);
}

async function nameOfDomain(text: string, domain: string, { domainName }: OpenDiskOptions): Promise<string> {
  if (domain === "0") return "Domain-0";
  if (!/^\d+$/.test(domain) || !domainName) return domain;
  const name = await domainName(Number(domain));
  if (name !== null) return name;
  throw new DiskError(
    "NOT_FOUND",
    `Cannot open ${JSON.stringify(text)}: there is no domain ${domain}, 'xvd domain list' shows them`,
  );
}

/** Where an attached device is served by NBD: `xvda` the disk, `xvda1` its first partition. */
export function deviceSocket(paths: XvdPaths, domain: string, vdev: string): string {
  return join(paths.run, "domains", domain, "dev", vdev);
}

async function openPart(
  { text, part }: DiskName,
  whole: BlockDevice,
  options: OpenDiskOptions,
): Promise<Pick<OpenDisk, "device" | "offset" | "sectorSize">> {
  if (part?.kind === "volume") {
    const { openVolumeOn } = await import("./lvm/open-volume.js");
    return { device: await openVolumeOn(text, part, whole, options), offset: null, sectorSize: null };
  }
  const { readPartitionTable, findPartition, openPartition } = await import("../partitions/table.js");
  const table = await readPartitionTable(whole);
  if (!table || !part)
    throw new DiskError("NOT_FOUND", `Cannot open ${JSON.stringify(text)}: ${whole.label} has no partition table`);
  const device = openPartition(whole, table, part.number);
  const { offset } = findPartition(table, part.number);
  return { device: owning(device, whole), offset, sectorSize: table.sectorSize };
}

/** The part as it is, but closing it closes the whole disk too. */
function owning(part: BlockDevice, whole: BlockDevice): BlockDevice {
  const close = part.close.bind(part);
  part.close = async () => {
    await close();
    await whole.close();
  };
  return part;
}

function notYet(text: string, what: string): DiskError {
  return new DiskError(
    "UNSUPPORTED",
    `Cannot open ${JSON.stringify(text)}: ${what} are not supported by this version, allowed files, FILE#pN, FILE#VG/LV, lvm:VG/LV, nbd: URIs and dom:DOMAIN/xvdX`,
  );
}
