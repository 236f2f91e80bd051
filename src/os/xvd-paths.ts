/** Where xvdkit keeps its state and its sockets: XVD_HOME and XVD_RUN, else the places the XDG rules name, else those of root. */

import { join } from "node:path";

export interface XvdPaths {
  /** State that outlives the daemon: devices, domains, archives. */
  readonly home: string;
  /** Sockets and locks of the running daemon. */
  readonly run: string;
}

/** `env` is the process's environment, `uid` its user (undefined where the system has none). Nothing is created. */
export function xvdPaths(env: NodeJS.ProcessEnv, uid: number | undefined): XvdPaths {
  const root = uid === 0;
  const userHome = env.HOME ?? "/tmp";
  const home =
    env.XVD_HOME ||
    (root ? "/var/lib/xvdkit" : join(env.XDG_STATE_HOME || join(userHome, ".local", "state"), "xvdkit"));
  const run =
    env.XVD_RUN || (root ? "/run/xvdkit" : join(env.XDG_RUNTIME_DIR || `/tmp/xvdkit-${uid ?? "user"}`, "xvdkit"));
  return { home, run };
}
