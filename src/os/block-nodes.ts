/** Block devices by their numbers: nodes in /dev, what sysfs tells of a disk and its partitions, and who uses them. Linux only. */
import { chmodSync, chownSync, lstatSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { basename } from "node:path";
import { DiskError, fromErrno } from "../errors.js";
import { deviceNumber } from "./block-size.js";
import { commandOf } from "./holder.js";
import { errnoError, nativeLibrary } from "./libc.js";
import { ownPid } from "./this-process.js";

/** `7:0`, as sysfs and mountinfo write it. */
export type DeviceNumber = string;

const S_IFBLK = 0o060000;

/** The number of the block device at `path`; null when nothing, or something else, is there. Links are not followed. */
export function blockNodeAt(path: string): DeviceNumber | null {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats?.isBlockDevice() ? numberText(stats.rdev) : null;
}

export function anythingAt(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Makes a node with the owner and permissions of the node `like`. Throws `DENIED` when there is something already. */
export function makeBlockNode(path: string, number: DeviceNumber, like: string): void {
  const native = nativeLibrary();
  if (!native)
    throw new DiskError("UNSUPPORTED", `Cannot make "${path}": native calls are not available on this system`);
  const what = `make the device node "${path}"`;
  try {
    const { mode, uid, gid } = statSync(like);
    const result = native.answer(
      native.declare("mknod", "int", "str", "uint", "uint64_t")(path, S_IFBLK | 0o600, makedev(number)),
    );
    if (result < 0) throw errnoError(result, "mknod");
    chownSync(path, uid, gid);
    chmodSync(path, mode & 0o777);
  } catch (error) {
    throw fromErrno(what, error);
  }
}

/** Removes the node if it still is that device. */
export function removeBlockNode(path: string, number: DeviceNumber): void {
  if (blockNodeAt(path) === number) rmSync(path, { force: true });
}

function makedev(number: DeviceNumber): bigint {
  const [major, minor] = number.split(":").map(BigInt) as [bigint, bigint];
  return (minor & 0xffn) | ((major & 0xfffn) << 8n) | ((minor & ~0xffn) << 12n) | ((major & ~0xfffn) << 32n);
}

function numberText(rdev: number): DeviceNumber {
  const { major, minor } = deviceNumber(rdev);
  return `${major}:${minor}`;
}

export interface SystemPartition {
  readonly number: number;
  readonly start: number; // bytes
  readonly size: number; // bytes
  readonly device: DeviceNumber;
}

/** A disk of the kernel's, by its name in /sys/block; null when there is none of that name. */
export function systemDisk(name: string): { device: DeviceNumber; partitions: SystemPartition[] } | null {
  const device = readText(`/sys/block/${name}/dev`);
  if (device === null) return null;
  const partitions = namesIn(`/sys/block/${name}`)
    .filter((entry) => entry.startsWith(name))
    .flatMap((entry) => systemPartition(`/sys/block/${name}/${entry}`));
  return { device, partitions: partitions.sort((a, b) => a.number - b.number) };
}

/** None when it went away meanwhile. */
function systemPartition(folder: string): SystemPartition[] {
  const [number, start, size, device] = ["partition", "start", "size", "dev"].map((key) =>
    readText(`${folder}/${key}`),
  );
  if (!number || !start || !size || !device) return [];
  return [{ number: Number(number), start: Number(start) * 512, size: Number(size) * 512, device }]; // sysfs counts 512-byte sectors, always
}

/** Loop devices in use, with the path of the file below each as the kernel prints it. */
export function loopFiles(): { name: string; file: string }[] {
  return namesIn("/sys/block").flatMap((name) => {
    const file = name.startsWith("loop") ? readText(`/sys/block/${name}/loop/backing_file`) : null;
    return file === null ? [] : [{ name, file }];
  });
}

/** A device as its users may know it. */
export interface UsedDevice {
  /** What it is called in messages, and may be in the list of mounts. */
  readonly path: string;
  readonly device: DeviceNumber;
}

/** Who uses one of the devices now, but for this process, as clauses: `/dev/xvda1 is mounted on /mnt`. */
export function usersOf(devices: readonly UsedDevice[]): string[] {
  const byNumber = new Map(devices.map((one) => [one.device, one.path]));
  const byPath = new Map(devices.map((one) => [one.path, one.path]));
  return [
    ...new Set([
      ...mounts().flatMap(({ device, source, folder }) => {
        const path = byNumber.get(device) ?? byPath.get(source);
        return path ? [`${path} is mounted on ${folder}`] : [];
      }),
      ...swaps().flatMap((path) => {
        const used = byNumber.get(blockNodeAt(path) ?? "");
        return used ? [`${used} is swap space`] : [];
      }),
      ...devices.flatMap(({ path, device }) => holders(device).map((holder) => `${holder} lies on ${path}`)),
      ...openers(byNumber),
    ]),
  ];
}

/**
 * The same of the disk behind a node: of a partition by its number, or of the disk and all its partitions (null).
 * Nobody uses what is no block device here.
 */
export function usersOfNode(path: string, partition: number | null): string[] {
  const stats = statSync(path, { throwIfNoEntry: false });
  const device = stats?.isBlockDevice() ? numberText(stats.rdev) : null;
  const disk = device && systemDisk(basename(linkAt(`/sys/dev/block/${device}`) ?? ""));
  if (!disk) return [];
  const partitions = disk.partitions
    .filter(({ number }) => partition === null || number === partition)
    .map((one) => ({ path: `${path}${/\d$/.test(path) ? "p" : ""}${one.number}`, device: one.device }));
  return usersOf(partition === null ? [{ path, device: disk.device }, ...partitions] : partitions);
}

/** Every mount in any mount namespace that can be seen. */
function mounts(): { device: DeviceNumber; source: string; folder: string }[] {
  const seen = new Set<string>();
  return pids().flatMap((pid) => {
    const namespace = linkAt(`/proc/${pid}/ns/mnt`) ?? String(pid);
    if (seen.has(namespace)) return [];
    seen.add(namespace);
    return (readText(`/proc/${pid}/mountinfo`) ?? "").split("\n").flatMap((line) => {
      const [before, after] = line.split(" - ");
      const [, , device, , folder] = before!.split(" ");
      const source = after?.split(" ")[1];
      return device && folder && source ? [{ device, source, folder: unescaped(folder) }] : [];
    });
  });
}

/** Blanks and the like are written as `\040` (proc(5)). */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

function swaps(): string[] {
  return (readText("/proc/swaps") ?? "")
    .split("\n")
    .slice(1)
    .flatMap((line) => line.split(/\s/)[0] || []);
}

/** Device-mapper and RAID devices on it. */
function holders(device: DeviceNumber): string[] {
  return namesIn(`/sys/dev/block/${device}/holders`);
}

function openers(byNumber: ReadonlyMap<DeviceNumber, string>): string[] {
  const others = pids().filter((pid) => pid !== ownPid);
  return others.flatMap((pid) =>
    namesIn(`/proc/${pid}/fd`).flatMap((fd) => {
      const path = byNumber.get(openNode(`/proc/${pid}/fd/${fd}`) ?? "");
      return path ? [`${commandOf(pid)} (pid ${pid}) has ${path} open`] : [];
    }),
  );
}

/** Only what has a path is looked at: asking a pipe or socket takes time and never helps. */
function openNode(link: string): DeviceNumber | null {
  if (!linkAt(link)?.startsWith("/")) return null;
  try {
    const stats = statSync(link);
    return stats.isBlockDevice() ? numberText(stats.rdev) : null;
  } catch {
    return null; // closed meanwhile
  }
}

function pids(): number[] {
  return namesIn("/proc").map(Number).filter(Number.isInteger);
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // ended or gone meanwhile
  }
}

function linkAt(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}
