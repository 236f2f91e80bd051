/** Who is connected to a unix socket. Linux by koffi; null wherever it cannot be told. */
import { commandOf } from "./holder.js";
import { libc } from "./libc.js";

export interface Peer {
  readonly pid: number;
  /** The program's name, of the process as it is now; `xvd VERB` for our own commands. */
  readonly command: string;
}

/** `fd` is an open, connected unix socket. The pid is of the process that connected; it may have handed its end on or have ended since. */
export function peerOf(fd: number): Peer | null {
  const pid = libc()?.peerPid(fd) ?? 0;
  return pid > 0 ? { pid, command: commandOf(pid) } : null;
}
