/** What this process is and inherits: its pid and its environment; and whether another process lives. The only file of this layer that asks. */
import thisProcess, { env, getuid, kill, pid } from "node:process";

export const ownPid: number = pid;

/** The user, where the system has such numbers. */
export function ownUid(): number | undefined {
  return getuid?.();
}

/** A copy of the variables that child processes inherit. */
export function environment(): Record<string, string | undefined> {
  return { ...env };
}

/** Also true for processes that this user may not signal. */
export function isRunning(pid: number): boolean {
  try {
    kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Runs when this thread ends by itself or by an error, not when it is terminated. Nothing can be awaited any more. */
export function atThreadExit(run: () => void): void {
  thisProcess.once("exit", run);
}
