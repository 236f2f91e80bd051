// What every bench module gets: the command, folders that go away, and where to say what is being measured.
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { havePrograms } from "./programs.js";
import { runProgram } from "./timing.js";

/** Medians are taken over this many rounds. */
export const ROUNDS = 5;

/**
 * @typedef {object} Context
 * @property {number} rounds                        how often each contestant is measured, in turns
 * @property {string} node                          the Node that runs the bench
 * @property {string} xvd                           path of bin/xvd.js; run it as [node, xvd, ...args]
 * @property {NodeJS.ProcessEnv} env                with XVD_HOME and XVD_RUN of this module's own
 * @property {string} dir                           an empty folder on disk, removed afterwards
 * @property {(bytes: number) => string | undefined} dirForFileOf  a folder whose file system takes a file of that size
 * @property {(...names: string[]) => boolean} have whether programs are there; says which are missing
 * @property {(text: string) => void} say           progress, on stderr
 * @property {() => Promise<void>} close
 */

/** @returns {Context} */
export function makeContext(name) {
  process.env.PATH = [process.env.PATH, "/usr/sbin", "/sbin"].join(delimiter);
  const folders = [];
  const folder = (parent) => {
    folders.push(mkdtempSync(join(parent, "xvd-bench-")));
    return folders.at(-1);
  };
  const dir = folder(tmpdir());
  const xvd = fileURLToPath(new URL("../../bin/xvd.js", import.meta.url));
  const env = {
    ...process.env,
    XVD_HOME: join(dir, "home"),
    XVD_RUN: join(dir, "run"),
    NO_COLOR: "1",
    XVD_KERNEL: "never",
  };
  const say = (text) => process.stderr.write(`${name}: ${text}\n`);
  return {
    rounds: ROUNDS,
    node: process.execPath,
    xvd,
    env,
    dir,
    dirForFileOf: (bytes) =>
      [dir, "/dev/shm"]
        .map((parent) => (parent === dir ? dir : folderIn(parent, folder)))
        .find((path) => path && takes(path, bytes)),
    have: (...names) => havePrograms(names, say),
    say,
    async close() {
      runProgram([process.execPath, xvd, "dom0", "stop"], { env, allowFailure: true });
      for (const path of folders) rmSync(path, { recursive: true, force: true });
    },
  };
}

function folderIn(parent, folder) {
  try {
    return folder(parent);
  } catch {
    return undefined;
  }
}

/** ext4 stops just below 16 TiB, XFS and tmpfs do not. */
function takes(path, bytes) {
  const probe = join(path, "probe");
  try {
    writeFileSync(probe, "");
    truncateSync(probe, bytes);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(probe, { force: true });
  }
}
