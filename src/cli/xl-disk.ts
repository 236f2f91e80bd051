/** From a disk of xl's language to what the daemon is asked for: where its target lies in this host's files. */
import { isAbsolute, join, resolve } from "node:path";
import type { AttachRequest } from "../dom0/api-types.js";
import { type PathKind, pathKind } from "../os/paths.js";
import type { XlDisk } from "../xen/xl/disk.js";
import { vbdOfDisk } from "../xen/xl/vbd.js";

/** `folder`: where relative targets lie. Throws `UNSUPPORTED` for what this host does not do. */
export function attachOfDisk(disk: XlDisk, folder: string): AttachRequest {
  const { vdev, target, access, options } = vbdOfDisk(disk);
  return { disk: diskOfTarget(target, folder), vdev: String(vdev.number), access, options };
}

/**
 * A relative target is a file of `folder`; xl looks there (its working folder) to judge it, and its script then opens
 * /dev/TARGET. So a block device of that name in /dev is taken when the folder has nothing of the name.
 */
export function diskOfTarget(
  target: string,
  folder: string,
  kindOf: (path: string) => PathKind | null = pathKind,
): string {
  if (isAbsolute(target) || /^(nbds?(\+\w+)?:|dom:|lvm:|backup:)/i.test(target)) return target;
  const here = resolve(folder, target);
  const device = join("/dev", target);
  return kindOf(here) === null && device.startsWith("/dev/") && kindOf(device) === "block" ? device : here;
}
