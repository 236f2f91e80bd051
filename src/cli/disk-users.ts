/**
 * Who uses a disk that is attached, beside this command: mounts, programs that have its node open, clients of its sockets.
 * A file is locked, and a block device opened for this command alone: whoever uses those has been told of before.
 */
import { DiskError } from "../errors.js";
import { usersOfNode } from "../os/block-nodes.js";
import { pathExists } from "../os/paths.js";
import { parseDiskName } from "../stack/disk-name.js";
import { diskContext } from "./disk.js";

/** Users that a refusal names. */
const MAX_NAMED = 4;

/** Throws `DENIED` and names the users of a partition of `disk` by its number, or (null) of anything on it. `verb`: `change partition 2 of`. */
export async function refuseUse(verb: string, disk: string, partition: number | null): Promise<void> {
  const users = await usersOfDisk(disk, partition);
  if (users.length === 0) return;
  const told = `${users.slice(0, MAX_NAMED).join(", ")}${users.length > MAX_NAMED ? ", and others" : ""}`;
  throw new DiskError("DENIED", `Cannot ${verb} ${disk}: it is in use, ${told}`, { details: { users } });
}

async function usersOfDisk(disk: string, partition: number | null): Promise<string[]> {
  const { base, part } = parseDiskName(disk, pathExists);
  if (base.kind !== "domain" || part?.kind === "volume") return []; // the kernel knows the disk, not the volume
  const [, whole, digits] = /^(\D+)(\d*)$/.exec(base.vdev)!;
  return usersOfAttached(base.domain, whole!, digits ? Number(digits) : (part?.number ?? partition));
}

async function usersOfAttached(domain: string, vdev: string, partition: number | null): Promise<string[]> {
  const { Dom0Client } = await import("../dom0/client.js");
  const status = await new Dom0Client({ paths: diskContext().paths! }).status();
  const device = status?.domains
    .find(({ name, domid }) => name === domain || String(domid) === domain)
    ?.devices.find((one) => one.vdev === vdev);
  if (!device) return [];
  const kernel = device["kernel-device"];
  const node = partition === null ? device.device : `${device.device}${partition}`;
  const clients = device.clients.filter(({ device, pid }) => device === node && pid !== process.pid);
  return [
    ...(kernel === null ? [] : usersOfNode(kernel, partition)),
    ...clients.map(({ pid, command }) =>
      pid === null ? `a client is connected to ${node}` : `${command} (pid ${pid}) is connected to ${node}`,
    ),
  ];
}
