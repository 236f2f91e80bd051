/** Whether block devices can be given to the kernel here, and what is missing if not. */

import { nativeLibrary } from "../os/libc.js";
import { canBeOpened, pathExists } from "../os/paths.js";
import { findProgram } from "../os/programs.js";
import { ownUid } from "../os/this-process.js";

/** Null: nothing is missing. Else a clause: `this process is not root`. */
export function missingForKernelDevices(): string | null {
  if (nativeLibrary() === null) return "native calls are not available on this system (Linux with koffi is needed)";
  if (ownUid() !== 0) return "it needs root, this process is not root";
  for (const [path, what] of [
    ["/dev/fuse", "the kernel's FUSE (module fuse)"],
    ["/dev/loop-control", "the kernel's loop devices (module loop)"],
  ] as const) {
    if (!pathExists(path)) return `${path} is not there: it needs ${what}`;
    if (!canBeOpened(path)) return `${path} cannot be opened: this container or its security policy does not allow it`;
  }
  if (findProgram("blockdev") === null) return "the program blockdev is not installed (Debian's package util-linux)";
  return pathExists("/sys/block") ? null : "/sys is not mounted";
}
