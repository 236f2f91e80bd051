/**
 * A new file that appears under its name only when it is complete: written without a name (O_TMPFILE), synced, then
 * linked, then the folder is synced. Nothing of it is left after any crash before the link. Where files cannot be
 * nameless it has a hidden name beside the final one until then, which a SIGKILL leaves behind.
 */
import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  linkSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { DiskError, fromErrno } from "../errors.js";
import { type OpenFile, openedFile, openFile } from "./file.js";
import { errnoError, libc } from "./libc.js";
import { type FileLock, lockFile } from "./lock.js";
import { openNamelessIn } from "./nameless.js";

export interface StagedOptions {
  /** Replace an existing file; without it an existing one is refused, at once and again at commit. */
  readonly force?: boolean;
  /** Bytes, all zeros at first, none of them stored. Default 0. */
  readonly size?: number;
  /** False: named without waiting for the disk, as `cp` does; a power cut soon after may lose the contents. Default true. */
  readonly durable?: boolean;
  /** Only for its owner, also where it replaces a file that others may read. Default false. */
  readonly private?: boolean;
  /** False: plain Node only. */
  readonly native?: boolean;
}

export interface StagedFile {
  /** Open for reading and writing until commit or abort. */
  readonly file: OpenFile;
  /** Syncs (when durable), gives the file its name and closes it. After a failure nothing has appeared and nothing is left. */
  commit(): Promise<void>;
  /** Leaves nothing. Idempotent, and without effect after a commit. */
  abort(): Promise<void>;
}

/** Throws `DENIED` when the name is taken (without `force`) or the file to be replaced is in use. */
export async function createStaged(path: string, options: StagedOptions = {}): Promise<StagedFile> {
  const { force = false, size = 0, durable = true, native = true } = options;
  if (path === "")
    throw new DiskError("UNSUPPORTED", 'Cannot create "": its name is empty, allowed is the name of a file', {
      details: { usage: true },
    });
  const final = resolved(path);
  const replaced = await holdReplaced(path, final, force, native);
  try {
    const draft = openNameless(path, final, native) ?? (await openHidden(path, final, native));
    if (replaced) takeOwnership(draft.file.fd, replaced.stats);
    if (options.private) fchmodSync(draft.file.fd, 0o600);
    const staged = new Staged(path, final, draft, { force, durable }, replaced);
    if (size > 0) await resizeOrAbort(staged, size);
    return staged;
  } catch (error) {
    await replaced?.release();
    throw fromErrno(`create "${path}"`, error);
  }
}

/** Owner, group and mode of the file that is replaced. Only root may give a file away: others become its owner. */
function takeOwnership(fd: number, { uid, gid, mode }: Stats): void {
  try {
    fchownSync(fd, uid, gid);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
  }
  fchmodSync(fd, mode & 0o7777); // afterwards: a change of owner takes set-user-ID away
}

/** The new bytes before they have their name. */
interface Draft {
  readonly file: OpenFile;
  /** Its hidden name; null while it has none. */
  readonly hidden: string | null;
}

interface Replaced {
  readonly stats: Stats;
  release(): Promise<void>;
}

class Staged implements StagedFile {
  readonly file: OpenFile;
  readonly #path: string;
  readonly #final: string;
  readonly #force: boolean;
  readonly #durable: boolean;
  readonly #replaced: Replaced | null;
  #hidden: string | null;
  #over = false;

  constructor(
    path: string,
    final: string,
    draft: Draft,
    how: { force: boolean; durable: boolean },
    replaced: Replaced | null,
  ) {
    this.file = draft.file;
    this.#hidden = draft.hidden;
    this.#path = path;
    this.#final = final;
    this.#force = how.force;
    this.#durable = how.durable;
    this.#replaced = replaced;
  }

  async commit(): Promise<void> {
    if (this.#over) throw new TypeError(`Cannot finish "${this.#path}": it is finished or given up already`);
    try {
      if (this.#durable) await this.file.sync();
      if (this.#hidden === null) this.#nameNameless();
      else this.#nameHidden(this.#hidden);
      if (this.#durable) syncFolder(dirname(this.#final));
    } catch (error) {
      await this.abort();
      throw fromErrno(`create "${this.#path}"`, error);
    }
    this.#over = true;
    await this.file.close();
    await this.#replaced?.release();
  }

  async abort(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    await this.file.close();
    if (this.#hidden !== null) rmSync(this.#hidden, { force: true });
    await this.#replaced?.release();
  }

  #nameNameless(): void {
    const native = this.file.native!;
    const linked = native.linkOpenFile(this.file.fd, this.#final);
    if (linked >= 0) return;
    const error = errnoError(linked, "linkat");
    if (error.code !== "EEXIST") throw error;
    if (!this.#force) throw existsAlready(this.#path);
    // A link cannot replace: the file gets a hidden name first and is moved from there.
    this.#hidden = linkHiddenName(this.file, this.#final);
    this.#nameHidden(this.#hidden);
  }

  #nameHidden(hidden: string): void {
    if (this.#force) renameSync(hidden, this.#final);
    else this.#linkHidden(hidden);
    this.#hidden = null;
  }

  /** A link, other than a rename, fails when the name is taken. */
  #linkHidden(hidden: string): void {
    try {
      linkSync(hidden, this.#final);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EEXIST" || existsSync(this.#final)) throw existsAlready(this.#path);
      if (code !== "EPERM" && code !== "ENOTSUP" && code !== "EOPNOTSUPP") throw error;
      renameSync(hidden, this.#final); // a file system without hard links: between the look and the move is a gap
    }
    rmSync(hidden, { force: true });
  }
}

/** A name of its own for a nameless file, beside `final`. */
function linkHiddenName(file: OpenFile, final: string): string {
  for (let count = 0; ; count++) {
    const hidden = join(dirname(final), `.${basename(final)}.${file.identity.replace(":", "-")}.${count}`);
    const result = file.native!.linkOpenFile(file.fd, hidden);
    if (result >= 0) return hidden;
    const error = errnoError(result, "linkat");
    if (error.code !== "EEXIST") throw error;
  }
}

/** Where the bytes shall lie: a symbolic link stays and its target is replaced. */
function resolved(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** Refuses what must not be replaced; otherwise keeps others from using it until the end. Null when nothing is there. */
async function holdReplaced(path: string, final: string, force: boolean, native: boolean): Promise<Replaced | null> {
  const stats = statSync(final, { throwIfNoEntry: false });
  if (!stats) return null;
  if (stats.isDirectory()) throw new DiskError("DENIED", `Cannot create "${path}": it is a directory`);
  if (!stats.isFile()) throw new DiskError("UNSUPPORTED", `Cannot create "${path}": it exists and is no file`);
  if (!force) throw existsAlready(path);
  const old = await openFile(final, { native });
  let lock: FileLock;
  try {
    lock = lockFile(old, "write", { purpose: `replace "${path}"` });
  } catch (error) {
    await old.close();
    throw error;
  }
  return {
    stats,
    async release() {
      lock.release();
      await old.close();
    },
  };
}

function existsAlready(path: string): DiskError {
  return new DiskError("DENIED", `Cannot create "${path}": it exists already, allowed with --force`, {
    details: { path, exists: true },
  });
}

function openNameless(path: string, final: string, native: boolean): Draft | null {
  if (!native || !libc()) return null; // it could not get its name later
  const fd = openNamelessIn(dirname(final), 0o666);
  return fd === null ? null : { file: openedFile(fd, path, true), hidden: null };
}

async function openHidden(path: string, final: string, native: boolean): Promise<Draft> {
  const { tmpNameSync } = (await import("tmp")).default;
  const folder = realpathSync(dirname(final));
  const hidden = tmpNameSync({ tmpdir: folder, prefix: `.${basename(final)}`, postfix: ".part" });
  const fd = openSync(hidden, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o666);
  return { file: openedFile(fd, path, true, { native }), hidden };
}

async function resizeOrAbort(staged: Staged, size: number): Promise<void> {
  try {
    await staged.file.resize(size);
  } catch (error) {
    await staged.abort();
    throw error;
  }
}

/** The new name is durable; where folders cannot be synced there is nothing to do. */
function syncFolder(folder: string): void {
  const fd = openSync(folder, constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
  } finally {
    closeSync(fd);
  }
}
