/** Programs of the system: found, run without a shell, their output captured. */
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { accessSync, constants, realpathSync, statSync } from "node:fs";
import { basename, delimiter, join } from "node:path";
import type { Readable } from "node:stream";
import { DiskError } from "../errors.js";
import { environment } from "./this-process.js";

/** Where a user's PATH often does not lead, and mkfs and sfdisk live. */
const SYSTEM_FOLDERS = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/** Debian packages of the programs that xvdkit runs. */
const PACKAGES: Readonly<Record<string, string>> = {
  "mkfs.ext2": "e2fsprogs",
  "mkfs.ext3": "e2fsprogs",
  "mkfs.ext4": "e2fsprogs",
  mke2fs: "e2fsprogs",
  e2fsck: "e2fsprogs",
  tune2fs: "e2fsprogs",
  debugfs: "e2fsprogs",
  resize2fs: "e2fsprogs",
  "mkfs.vfat": "dosfstools",
  "mkfs.fat": "dosfstools",
  "fsck.fat": "dosfstools",
  mcopy: "mtools",
  mdir: "mtools",
  "mkfs.xfs": "xfsprogs",
  xfs_repair: "xfsprogs",
  xfs_db: "xfsprogs",
  "mkfs.btrfs": "btrfs-progs",
  mkswap: "util-linux",
  blkid: "util-linux",
  blockdev: "util-linux",
  sfdisk: "fdisk",
  sgdisk: "gdisk",
  "qemu-img": "qemu-utils",
  "qemu-io": "qemu-utils",
  "qemu-nbd": "qemu-utils",
  tar: "tar",
};

export interface RunOptions {
  readonly input?: Uint8Array | string;
  readonly signal?: AbortSignal;
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Descriptors that the program has as 3 (`FIRST_INHERITED`), 4 and so on. */
  readonly files?: readonly number[];
  /** The kernel ends the program when this process dies, however that happens; Linux, where setpriv is installed. */
  readonly diesWithUs?: boolean;
  /** Exit codes that are no failure; default only 0. */
  readonly allowed?: readonly number[];
  /** Bytes of output kept before the program is stopped; default 64 MiB. */
  readonly maxOutput?: number;
}

const MAX_OUTPUT = 64 << 20;

/** Number of the first descriptor of `RunOptions.files` in the program. */
export const FIRST_INHERITED = 3;

export interface RunResult {
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** The program's full path, or null. */
export function findProgram(name: string, path: string = environment().PATH ?? ""): string | null {
  for (const folder of [...path.split(delimiter).filter(Boolean), ...SYSTEM_FOLDERS]) {
    const candidate = join(folder, name);
    if (isExecutable(candidate)) return candidate;
  }
  return null;
}

/** The same, or `NOT_FOUND` with the package that has it. */
export function requireProgram(name: string): string {
  const found = findProgram(name);
  if (found) return found;
  const from = PACKAGES[name] ? `, it is in Debian's package ${PACKAGES[name]}` : "";
  throw new DiskError("NOT_FOUND", `Cannot run ${name}: it is not installed${from}`, {
    details: { program: name, package: PACKAGES[name] ?? null },
  });
}

/** Runs a program to its end. Throws `NOT_FOUND` when it is missing, `IO` with its last words when it fails. */
export async function runProgram(name: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const program = requireProgram(name);
  const { spawn } = await import("node:child_process");
  const [command, ...words] = [...(options.diesWithUs ? dyingWithUs() : []), program, ...args];
  const child = spawn(command!, words, {
    cwd: options.cwd,
    env: { ...environment(), LC_ALL: "C", ...options.env },
    signal: options.signal,
    stdio: ["pipe", "pipe", "pipe", ...(options.files ?? [])],
  }) as ChildProcessWithoutNullStreams;
  const stdout = new Captured(child.stdout, options.maxOutput ?? MAX_OUTPUT, () => child.kill("SIGKILL"));
  const stderr = new Captured(child.stderr, options.maxOutput ?? MAX_OUTPUT, () => child.kill("SIGKILL"));
  child.stdin.on("error", () => {}); // a program may end without reading its input
  child.stdin.end(options.input);
  try {
    const [code, killedBy] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (...end) => resolve(end));
    });
    const result = { code: code ?? -1, stdout: stdout.bytes(), stderr: stderr.bytes().toString("utf8") };
    if (stdout.overflowed || stderr.overflowed) throw failure(name, result, "it printed too much");
    if (code === null) throw failure(name, result, `it was ended by ${killedBy}`);
    if (!(options.allowed ?? [0]).includes(code)) throw failure(name, result, `it ended with exit code ${code}`);
    return result;
  } finally {
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
  }
}

/** The words before a command that bind its life to ours. BusyBox has a setpriv too, without this ability. */
function dyingWithUs(): string[] {
  const setpriv = findProgram("setpriv");
  return setpriv && basename(realpathSync(setpriv)) === "setpriv" ? [setpriv, "--pdeathsig", "KILL"] : [];
}

/** What a program prints, up to a limit. Beyond it the pipe is closed as well: children of the program may hold it open. */
class Captured {
  readonly #parts: Buffer[] = [];
  overflowed = false;

  constructor(stream: Readable, limit: number, overflow: () => void) {
    let size = 0;
    stream.on("data", (part: Buffer) => {
      size += part.length;
      this.#parts.push(part);
      if (size <= limit) return;
      this.overflowed = true;
      stream.destroy();
      overflow();
    });
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

function failure(name: string, result: RunResult, end: string): DiskError {
  const words = (result.stderr.trim() || result.stdout.toString("utf8").trim()).split("\n").at(-1) ?? "";
  return new DiskError("IO", `Cannot run ${name}: ${end}${words ? `: ${words.slice(0, 400)}` : ""}`, {
    details: { program: name, code: result.code, stderr: result.stderr.slice(-4000) },
  });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
