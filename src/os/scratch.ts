/**
 * Files for programs to work on, which go away. Where files can be nameless the program inherits a descriptor, and nothing is
 * left after any death. Elsewhere the file lies in a hidden folder named after its owner, and the next one to make such a folder
 * there removes those of the dead.
 */
import { closeSync, ftruncateSync, mkdtempSync, promises, readdirSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { fromErrno } from "../errors.js";
import { openNamelessIn } from "./nameless.js";
import { FIRST_INHERITED } from "./programs.js";
import { isRunning, ownPid } from "./this-process.js";

export interface ScratchFile {
  /** By which this process opens it. */
  readonly path: string;
  /** By which a program opens it that gets `files` as its `RunOptions.files`. */
  readonly programPath: string;
  readonly files: readonly number[];
}

export interface ScratchOptions {
  /** False: always with a name. */
  readonly nameless?: boolean;
}

/** Runs `work` with a sparse file of `size` bytes on the file system of `folder`, readable by nobody else, and removes it afterwards. */
export async function withScratchFile<T>(
  folder: string,
  size: number,
  work: (scratch: ScratchFile) => Promise<T>,
  { nameless = true }: ScratchOptions = {},
): Promise<T> {
  try {
    const fd = nameless ? openNamelessIn(folder, 0o600) : null;
    return await (fd === null ? withNamed(folder, size, work) : withNameless(fd, size, work));
  } catch (error) {
    throw fromErrno(`use a scratch file in "${folder}"`, error);
  }
}

async function withNameless<T>(fd: number, size: number, work: (scratch: ScratchFile) => Promise<T>): Promise<T> {
  try {
    ftruncateSync(fd, size);
    const programPath = `/proc/self/fd/${FIRST_INHERITED}`;
    return await work({ path: `/proc/self/fd/${fd}`, programPath, files: [fd] });
  } finally {
    closeSync(fd);
  }
}

async function withNamed<T>(folder: string, size: number, work: (scratch: ScratchFile) => Promise<T>): Promise<T> {
  sweepDead(folder);
  const own = mkdtempSync(join(folder, `${PREFIX}${hostname()}-${ownPid}-`));
  try {
    const path = join(own, "scratch");
    await promises.writeFile(path, "", { mode: 0o600 });
    await promises.truncate(path, size);
    return await work({ path, programPath: path, files: [] });
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}

const PREFIX = ".xvd-scratch-";

/** Only of this host: the pids of another one, which may share the folder, say nothing here. */
function sweepDead(folder: string): void {
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(`${PREFIX}${hostname()}-`)) continue;
    const [, pid] = /^(\d+)-\w{6}$/.exec(name.slice(`${PREFIX}${hostname()}-`.length)) ?? [];
    if (pid && !isRunning(Number(pid))) removeQuietly(join(folder, name));
  }
}

function removeQuietly(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {} // another user's
}
