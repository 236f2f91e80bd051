/**
 * New file systems by the system's own tools, without root and without loop devices: the tool works on a sparse scratch file of the
 * partition's size, whose data is then copied into the partition. One way for every kind of disk that can be written.
 *
 * Order: the tool runs; until it is done the partition is untouched, and an abort leaves it so. Then, without a way back, the first
 * MiB (every superblock lies there) becomes zeros, flush, everything behind it is copied, flush, the first MiB is copied, flush.
 * So after a cut the partition shows the old file system, none, or all of the new one; never the half of one.
 */
import { byteGranular } from "../block/aligned.js";
import { copyDevice } from "../block/copy.js";
import type { BlockDevice } from "../block/device.js";
import { openFileDevice } from "../block/file.js";
import { DiskError } from "../errors.js";
import { pathKind } from "../os/paths.js";
import { runProgram } from "../os/programs.js";
import { withScratchFile } from "../os/scratch.js";
import type { Filesystem } from "./filesystem.js";
import { identifyFilesystem } from "./identify.js";

export interface MakeOptions {
  readonly label?: string;
  /** A folder whose files the new file system shall hold. */
  readonly from?: string;
  /** Bytes from the disk's begin to the partition; FAT writes it down. Default 0. */
  readonly partitionOffset?: number;
  /** Logical sectors of the disk. Default 512. */
  readonly sectorSize?: 512 | 4096;
  /** Folder for the scratch file; it needs space for the file system's data. */
  readonly scratch: string;
  /** Looked at until the tool is done. */
  readonly signal?: AbortSignal;
  /** The tool is done, from now on the device changes. */
  readonly onCommit?: () => void;
}

interface Maker {
  readonly program: string;
  /** Arguments before the file's name. */
  arguments(
    options: Required<Pick<MakeOptions, "partitionOffset" | "sectorSize">> & Pick<MakeOptions, "label" | "from">,
  ): string[];
  readonly fills: boolean;
  /** Bytes of a label; some tools would cut a longer one. */
  readonly longestLabel: number;
}

const ext = (type: string): Maker => ({
  program: "mke2fs",
  fills: true,
  longestLabel: 16,
  arguments: ({ label, from, sectorSize }) => [
    "-q",
    "-F",
    "-t",
    type,
    ...(sectorSize > 1024 ? ["-b", String(Math.max(4096, sectorSize))] : []),
    ...(label === undefined ? [] : ["-L", label]),
    ...(from === undefined ? [] : ["-d", from]),
  ],
});

const MAKERS: Readonly<Record<string, Maker>> = {
  ext2: ext("ext2"),
  ext3: ext("ext3"),
  ext4: ext("ext4"),
  vfat: {
    program: "mkfs.fat",
    fills: false,
    longestLabel: 11,
    arguments: ({ label, partitionOffset, sectorSize }) => [
      "-S",
      String(sectorSize),
      "-h",
      String(Math.min(0xffff_ffff, partitionOffset / sectorSize)),
      ...(label === undefined ? [] : ["-n", label]),
    ],
  },
  xfs: {
    program: "mkfs.xfs",
    fills: false,
    longestLabel: 12,
    arguments: ({ label, sectorSize }) => [
      "-q",
      "-f",
      "-s",
      `size=${sectorSize}`,
      ...(label === undefined ? [] : ["-L", label]),
    ],
  },
  swap: {
    program: "mkswap",
    fills: false,
    longestLabel: 15,
    arguments: ({ label }) => (label === undefined ? [] : ["-L", label]),
  },
  btrfs: {
    program: "mkfs.btrfs",
    fills: true,
    longestLabel: 255,
    arguments: ({ label, from }) => [
      "-q",
      "-f",
      ...(label === undefined ? [] : ["-L", label]),
      ...(from === undefined ? [] : ["--rootdir", from]),
    ],
  },
};

/** Types that `makeFilesystem` can make. */
export const MAKEABLE: readonly string[] = Object.keys(MAKERS);

/** Holds every superblock that others look for. */
const HEAD = 1 << 20;

/** Throws `NOT_FOUND` naming the Debian package when the tool is missing, `IO` with the tool's last words when it refuses. */
export async function makeFilesystem(device: BlockDevice, type: string, options: MakeOptions): Promise<Filesystem> {
  const maker = makerOf(type, options);
  if (!device.writable) throw new DiskError("READ_ONLY", `Cannot make ${type} on ${device.label}: it is read-only`);
  const { partitionOffset = 0, sectorSize = 512, label, from } = options;
  return withScratchFile(options.scratch, device.size, async ({ path, programPath, files }) => {
    const words = maker.arguments({ partitionOffset, sectorSize, label, from });
    const how = { files, diesWithUs: true, ...(options.signal ? { signal: options.signal } : {}) };
    await runProgram(maker.program, [...words, programPath], how).catch((error: unknown) => {
      throw toolError(device, type, maker.program, programPath, error);
    });
    const made = await openFileDevice(path);
    try {
      return await install(made, device, type, options);
    } finally {
      await made.close();
    }
  });
}

/** Throws what `makeFilesystem` would throw for this type and filling, before anything is opened. */
export function checkMake(type: string, { label, from }: Pick<MakeOptions, "label" | "from"> = {}): void {
  makerOf(type, { label, from });
}

function makerOf(type: string, { label = "", from }: Pick<MakeOptions, "label" | "from">): Maker {
  const maker = Object.hasOwn(MAKERS, type) ? MAKERS[type]! : undefined;
  if (!maker)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot make a file system ${JSON.stringify(type)}: it is not known, allowed ${MAKEABLE.join(" ")}`,
      { details: { usage: true, type } },
    );
  if (from !== undefined && !maker.fills) {
    const can = MAKEABLE.filter((name) => MAKERS[name]!.fills).join(" ");
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot fill ${type} from ${JSON.stringify(from)}: its tool cannot, allowed ${can}`,
      { details: { usage: true, type } },
    );
  }
  if (from !== undefined && pathKind(from) !== "directory")
    throw new DiskError("NOT_FOUND", `Cannot fill ${type} from ${JSON.stringify(from)}: there is no such folder`);
  if (Buffer.byteLength(label) > maker.longestLabel)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot label ${type} ${JSON.stringify(label)}: it has ${Buffer.byteLength(label)} bytes, allowed up to ${maker.longestLabel}`,
      { details: { usage: true } },
    );
  return maker;
}

/** The tools say first what is wrong, and then how they are used. */
function toolError(device: BlockDevice, type: string, program: string, path: string, error: unknown): unknown {
  const said = error instanceof DiskError ? error.details.stderr : undefined;
  if (typeof said !== "string") return error;
  const lines = said
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const reason =
    lines.find((line) => /error|small|large|long|invalid|illegal|cannot|can't|fail|not /i.test(line)) ??
    lines[0] ??
    "it did not say why";
  const text = reason
    .replace(/^(ERROR|mke2fs|mkfs\.\w+|mkswap|error):\s*/, "")
    .replaceAll(path, device.label)
    .slice(0, 300);
  return new DiskError(
    "IO",
    `Cannot make ${type} on ${device.label} of ${device.size} bytes: ${program} refused: ${text}`,
    { details: { program }, cause: error },
  );
}

async function install(
  made: BlockDevice,
  device: BlockDevice,
  type: string,
  options: MakeOptions,
): Promise<Filesystem> {
  const filesystem = await identifyFilesystem(made);
  if (filesystem?.type !== type || made.size !== device.size)
    throw new DiskError(
      "IO",
      `Cannot make ${type} on ${device.label}: the tool left ${filesystem?.type ?? "no file system"} of ${made.size} bytes, expected ${type} of ${device.size}`,
    );
  options.signal?.throwIfAborted();
  options.onCommit?.();
  const target = byteGranular(device);
  const head = Math.min(HEAD, device.size);
  await target.zero(0, head);
  await target.flush();
  await copyDevice(made, target, { sourceOffset: head, targetOffset: head });
  await target.flush();
  await copyDevice(made, target, { length: head });
  await target.flush();
  return filesystem;
}
