/** Devices of the kernel's for tests: made in folders of their own below /dev, and looked for afterwards. */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { afterEach, expect } from "vitest";
import { openFileDevice } from "#src/block/file.js";
import { missingForKernelDevices } from "#src/kernel/available.js";
import { DeviceNodes } from "#src/kernel/device-nodes.js";
import { KernelDevice, type KernelDeviceOptions } from "#src/kernel/kernel-device.js";
import { removeLeftovers } from "#src/kernel/leftovers.js";
import { SessionRunner } from "#src/kernel/session-runner.js";
import { peerPath } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";

export const MiB = 1 << 20;

const missing = missingForKernelDevices();
if (missing) process.stderr.write(`skipped: kernel devices: ${missing}\n`);

/** Whether the kernel can be given devices, and these programs are there. */
export function kernelTakesDevices(...programs: string[]): boolean {
  const absent = programs.filter((name) => peerPath(name) === undefined);
  if (!missing && absent.length > 0) process.stderr.write(`skipped: kernel devices: no ${absent.join(", ")}\n`);
  return !missing && absent.length === 0;
}

/** Asynchronous always: this process must answer the kernel meanwhile. Fails with what the program said. */
export const run = promisify(execFile);

export async function output(program: string, ...args: string[]): Promise<string> {
  return (await run(program, args, { maxBuffer: 64 * MiB })).stdout.trim();
}

/**
 * Files on a mounted kernel device are read and written by other processes: a call of this one that waits for its own
 * answers could not be ended.
 */
export async function copyInto(path: string, data: Uint8Array | string): Promise<void> {
  const source = join(tempDir(), "source");
  writeFileSync(source, data);
  await run("cp", [source, path]);
}

/** A test's own owner, record and folder of nodes; all of it is looked at and taken away when the test has ended. */
export class KernelPlace {
  readonly folder = mkdtempSync("/dev/xvdkit-test-");
  readonly owner = basename(this.folder).replace(/\W/g, "");
  readonly dir = tempDir();
  readonly recordFile = join(this.dir, "nodes.json");
  readonly nodes = new DeviceNodes(this.recordFile);
  readonly runner = new SessionRunner();
  readonly messages: string[] = [];
  writersClosed = 0;
  lost = 0;
  readonly #open: KernelDevice[] = [];
  readonly #mounts: string[] = [];

  /** A sparse file. */
  image(name: string, size: number): string {
    const path = join(this.dir, name);
    writeFileSync(path, "");
    truncateSync(path, size);
    return path;
  }

  async serve(
    image: string,
    options: Partial<KernelDeviceOptions> & { writable?: boolean } = {},
  ): Promise<KernelDevice> {
    const { writable = true, ...rest } = options;
    const device = options.device ?? (await openFileDevice(image, { writable }));
    const opened = await KernelDevice.open({ ...this.options(), ...rest, device });
    this.#open.push(opened);
    return opened;
  }

  options(): Omit<KernelDeviceOptions, "device"> {
    return {
      ...{ name: "xvda", folder: this.folder, owner: this.owner, nodes: this.nodes, runner: this.runner },
      ...{ partitions: [], onWriterClosed: () => this.writersClosed++ },
      onLost: () => this.lost++,
      onError: (message) => this.messages.push(message),
    };
  }

  /** Gives the mount point. */
  async mount(device: string, ...options: string[]): Promise<string> {
    const point = join(this.dir, `mnt${this.#mounts.length}`);
    mkdirSync(point);
    await run("mount", [...options, device, point]);
    this.#mounts.push(point);
    return point;
  }

  async unmount(point: string): Promise<void> {
    await run("umount", [point]);
    this.#mounts.splice(this.#mounts.indexOf(point), 1);
  }

  /** What there is in the kernel and in /dev. */
  left(): { loops: string[]; nodes: string[]; mounts: string[] } {
    return {
      loops: loopsOf(this.owner),
      nodes: readdirSync(this.folder),
      mounts: readFileSync("/proc/mounts", "utf8")
        .split("\n")
        .filter((line) => line.includes(this.dir) || line.includes(this.folder)),
    };
  }

  /** Whatever the test did. */
  async clean(): Promise<void> {
    for (const point of this.#mounts.splice(0)) await run("umount", ["-l", point]).catch(() => {});
    for (const device of this.#open.splice(0)) await device.close({ force: true }).catch(() => {});
    await removeLeftovers(this.owner, this.recordFile);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export const NOTHING_LEFT = { loops: [], nodes: [], mounts: [] };

/** Loop devices over files that this owner served. */
export function loopsOf(owner: string): string[] {
  return readdirSync("/sys/block").filter((name) => {
    try {
      return readFileSync(`/sys/block/${name}/loop/backing_file`, "utf8").includes(owner);
    } catch {
      return false;
    }
  });
}

const places = new Set<KernelPlace>();

export function kernelPlace(): KernelPlace {
  const place = new KernelPlace();
  places.add(place);
  return place;
}

afterEach(async () => {
  for (const place of places) await place.clean();
  places.clear();
});

/** The kernel lets go of a loop device a moment after its last user. */
export function expectNothingLeft(place: KernelPlace): Promise<void> {
  return expect.poll(() => place.left()).toEqual(NOTHING_LEFT);
}
