/** qcow2 files for qemu-img and for us: made, opened and compared by either. */
import { spawnSync } from "node:child_process";
import { dirname, isAbsolute, join } from "node:path";
import { expect } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { fileDevice, openFileDevice } from "#src/block/file.js";
import { isZero } from "#src/bytes/align.js";
import { loadCodec } from "#src/bytes/packing.js";
import type { CheckReport } from "#src/formats/extensions.js";
import type { CreateOptions, ImageDevice, NewBacking, OpenGate } from "#src/formats/format.js";
import { PLAIN_FACTS, withFacts } from "#src/formats/format.js";
import { parseOptions } from "#src/formats/options.js";
import { qcow2 } from "#src/formats/qcow2/index.js";
import { openDevice, type Qcow2Device } from "#src/formats/qcow2/open-device.js";
import { openFile } from "#src/os/file.js";
import { createOptions, openContext } from "../support/images.js";

export function qemuImg(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(
    "qemu-img",
    args,
    inItsFolder(args.findLast((arg) => isAbsolute(arg)) ?? "."),
  );
  if (status !== 0) throw new Error(`qemu-img ${args.join(" ")}: ${status} ${stderr}${stdout}`);
  return stdout;
}

export function qemuIo(path: string, ...commands: string[]): string {
  const { status, stdout, stderr } = spawnSync(
    "qemu-io",
    [...commands.flatMap((one) => ["-c", one]), path],
    inItsFolder(path),
  );
  expect([status, stderr, /verification failed/.test(stdout)]).toEqual([0, "", false]);
  return stdout;
}

/** qemu-img looks for a data file where it was started. */
const inItsFolder = (path: string) => ({ encoding: "utf8", cwd: dirname(path) }) as const;

/** What qemu-img says of the metadata: nothing to complain of. */
export function expectClean(path: string): void {
  const { status, stdout, stderr } = spawnSync("qemu-img", ["check", "--output=json", path], inItsFolder(path));
  expect({ status, stderr, stdout: status === 0 ? "" : stdout }).toEqual({ status: 0, stderr: "", stdout: "" });
}

export const qemuCheck = (path: string) =>
  JSON.parse(spawnSync("qemu-img", ["check", "--output=json", path], inItsFolder(path)).stdout) as Record<
    string,
    number
  >;

/** Opens what an image names, as it is named. */
export const GATE: OpenGate = {
  async openBacking({ name, format, from }) {
    const file = await openFileDevice(beside(from.path, name));
    return format === "qcow2" ? openDevice(file, openContext(GATE)) : withFacts(file, () => PLAIN_FACTS);
  },
  openByIdentity: ({ identity }) => Promise.reject(new TypeError(`qcow2 asks for the identity ${identity}`)),
  openExtent: ({ name, from, writable }) => openFileDevice(beside(from.path, name), { writable }),
};
const beside = (from: string, name: string) => (isAbsolute(name) ? name : join(dirname(from), name));

export async function openImage(path: string, writable = false): Promise<Qcow2Device> {
  const file = await openFileDevice(path, { writable });
  try {
    return await openDevice(file, openContext(GATE));
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** `o` as after `-o`. */
export async function createImage(
  path: string,
  size: number,
  o = "",
  options: Partial<CreateOptions> = {},
): Promise<void> {
  const file = fileDevice(await openFile(path, { create: true }));
  await qcow2.create(file, size, ourOptions(path, o, options));
  await file.close();
}

export function ourOptions(path: string, o: string, options: Partial<CreateOptions> = {}): CreateOptions {
  const given = new Map(
    o
      .split(",")
      .filter(Boolean)
      .map((pair) => pair.split("=") as [string, string]),
  );
  return createOptions({
    values: parseOptions("qcow2", qcow2.options, given),
    createExtent: async (name) => fileDevice(await openFile(join(dirname(path), name), { create: true })),
    ...options,
  });
}

/** A compressed image, written in one pass; clusters of zeros are left out. */
export async function writePacked(path: string, disk: Buffer, o: string): Promise<void> {
  const file = fileDevice(await openFile(path, { create: true }));
  const writer = await qcow2.createWriter(file, disk.length, ourOptions(path, o));
  const codec = await loadCodec(writer.packing.method);
  for (let at = 0; at < disk.length; at += writer.unit) {
    const cluster = Buffer.alloc(writer.unit);
    disk.copy(cluster, 0, at);
    if (!isZero(cluster))
      await writer.write(
        at,
        cluster.subarray(0, Math.min(writer.unit, disk.length - at)),
        codec.pack(cluster, writer.packing),
      );
  }
  await writer.finish();
  await file.close();
}

export async function newBacking(path: string, format: "qcow2" | "raw"): Promise<NewBacking> {
  const file = await openFileDevice(path);
  const device: ImageDevice =
    format === "qcow2" ? await openDevice(file, openContext(GATE)) : withFacts(file, () => PLAIN_FACTS);
  return { name: path, format, device };
}

export async function check(
  path: string,
  repair: "none" | "leaks" | "all" = "none",
  dryRun = false,
): Promise<CheckReport> {
  const file = await openFileDevice(path, { writable: repair !== "none" && !dryRun });
  try {
    return await qcow2.check(file, openContext(GATE), { repair, dryRun });
  } finally {
    await file.close();
  }
}

export async function contents(device: BlockDevice, length = device.size): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await device.read(0, bytes);
  return bytes;
}

/** A disk with data here and there, the same for the same seed. */
export function sampleDisk(size: number, seed = 1): Buffer {
  const disk = Buffer.alloc(size);
  const next = randomNumbers(seed);
  for (let run = 0; run < 24; run++) {
    const length = [512, 4096, 65536, 300 * 1024][next(4)]!;
    const at = next(Math.floor((size - length) / 512)) * 512;
    const packable = next(2) === 0;
    for (let i = 0; i < length; i++) disk[at + i] = packable ? (i >> 6) & 0xff : next(256);
  }
  return disk;
}

/** Whole numbers below `n`, the same for the same seed. */
export function randomNumbers(seed: number): (n: number) => number {
  let state = seed * 2654435761 + 1;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}
