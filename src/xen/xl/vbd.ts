/**
 * What this host does with a disk of xl's language: libxl's checks and defaults, and a plain refusal of what is not here.
 *
 * phy and qdisk are both served by our own backend below `backend/vbd`; what the kernel's blkback or QEMU would find in
 * the keys (`type`, `params`, `script`) is written as libxl writes it for the one that was asked for.
 */
import { DiskError } from "../../errors.js";
import { parseVdev, type Vdev } from "../blkif/vdev.js";
import type { VbdOptions } from "../toolstack.js";
import type { XlBackendType, XlDisk } from "./disk.js";

export interface XlVbd {
  readonly vdev: Vdev;
  /** As it was given; a relative one is the caller's to resolve. */
  readonly target: string;
  readonly access: "rw" | "ro";
  readonly options: VbdOptions;
}

/** libxl's reasons against a backend, and ours. */
const UNSUITABLE: Readonly<Partial<Record<XlBackendType, string>>> = {
  tap: "backendtype is tap, which needs blktap's tapback",
  standalone: "backendtype is standalone, which serves specification=virtio alone",
};

/** xl's other formats, beside raw, that there are drivers for. */
const SERVED: ReadonlySet<string> = new Set(["qcow2", "vhd"]);

/** Throws `UNSUPPORTED`, with libxl's words where libxl refuses it too. */
export function vbdOfDisk(disk: XlDisk): XlVbd {
  const vdev = identify(disk);
  refuseEmpty(disk);
  refuseForeign(disk);
  refuseBackend(disk);
  if (disk.target === "")
    throw refused(disk, 'failed to stat: the target is "", allowed a path or another DISK of xvd');
  const backendType = disk.backendType === "qdisk" || disk.format !== "raw" ? "qdisk" : "phy";
  return {
    vdev,
    target: disk.target,
    access: disk.access,
    options: {
      dev: disk.vdev,
      backendType,
      cdrom: disk.cdrom,
      directIoSafe: disk.directIoSafe,
      ...(disk.formatGiven ? { format: disk.format } : {}),
      ...(disk.discard === null ? {} : { discard: disk.discard }),
      ...(disk.trusted === null ? {} : { trusted: disk.trusted }),
    },
  };
}

function identify(disk: XlDisk): Vdev {
  try {
    return parseVdev(disk.vdev);
  } catch (error) {
    const reason = (error as Error).message.replace(/^Cannot use /, "");
    throw refused(disk, `Invalid or unsupported virtual disk identifier: ${reason}`);
  }
}

function refuseEmpty({ format, cdrom, target, ...disk }: XlDisk): void {
  if (format !== "empty") return;
  const name = `Disk vdev=${disk.vdev} is empty`;
  if (!cdrom) throw refused(disk, `${name} but not cdrom`);
  if (target !== "") throw refused(disk, `${name} but an image has been provided: ${target}`);
  throw refused(
    disk,
    `${name}: no frontend connects to a drive without a disk, and discs are not changed here, allowed a target`,
  );
}

/** What needs another domain, another protocol or another program. */
function refuseForeign(disk: XlDisk): void {
  const { backend, specification, grantUsage, colo, script } = disk;
  if (backend !== null && backend !== "0" && backend !== "Domain-0")
    throw refused(disk, `backend is ${JSON.stringify(backend)}, a driver domain, allowed Domain-0`);
  if (specification === "virtio")
    throw unsuitable(disk, "specification is virtio, which a device model serves, allowed specification=xen");
  if (grantUsage !== null) throw unsuitable(disk, "grant_usage goes with specification=virtio alone");
  if (colo) throw unsuitable(disk, "colo needs QEMU's replication on a second host");
  if (script !== null && disk.backendType === "qdisk")
    throw unsuitable(disk, `backend qdisk is not compatible with script=${script}`);
  if (script !== null)
    throw refused(
      disk,
      `script is ${JSON.stringify(script)}, a program of a real host; here the backend opens the disk itself, allowed target= alone, with nbd:// URIs as well`,
    );
}

function refuseBackend(disk: XlDisk): void {
  const reason = disk.backendType && UNSUITABLE[disk.backendType];
  if (reason) throw unsuitable(disk, `${reason}, allowed phy and qdisk`);
  if (disk.format === "raw") return;
  if (disk.backendType === "phy")
    throw unsuitable(disk, `backend phy is unsuitable due to format ${disk.format}, allowed raw`);
  if (!SERVED.has(disk.format))
    throw refused(disk, `format is ${disk.format}, which this version does not serve, allowed raw, qcow2 and vhd`);
}

function unsuitable(disk: Pick<XlDisk, "vdev" | "spec">, why: string): DiskError {
  return refused(disk, `no suitable backend for disk ${disk.vdev}: ${why}`);
}

function refused({ vdev, spec }: Pick<XlDisk, "vdev" | "spec">, why: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot attach ${JSON.stringify(spec)}: ${why}`, { details: { vdev, spec } });
}
