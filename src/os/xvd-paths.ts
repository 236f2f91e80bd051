/** Where xvdkit keeps its state and its sockets: XVD_HOME and XVD_RUN, else the places the XDG rules name, else those of root. */

import { join, resolve } from "node:path";

export interface XvdPaths {
  /** State that outlives the daemon: devices, domains, archives. */
  readonly home: string;
  /** Sockets and locks of the running daemon. */
  readonly run: string;
}

/**
 * `env` is the process's environment, `uid` its user (undefined where the system has none). Nothing is created.
 * Both are absolute: the daemon works in another folder than the command that starts it.
 */
export function xvdPaths(env: NodeJS.ProcessEnv, uid: number | undefined): XvdPaths {
  const root = uid === 0;
  const state = () => join(env.XDG_STATE_HOME || join(env.HOME ?? "/tmp", ".local", "state"), "xvdkit");
  // Without a session's own folder: one below /tmp, whose owner is checked before it is used (os/trees.ts).
  const sockets = () => (env.XDG_RUNTIME_DIR ? join(env.XDG_RUNTIME_DIR, "xvdkit") : `/tmp/xvdkit-${uid ?? "user"}`);
  return {
    home: resolve(env.XVD_HOME || (root ? "/var/lib/xvdkit" : state())),
    run: resolve(env.XVD_RUN || (root ? "/run/xvdkit" : sockets())),
  };
}
