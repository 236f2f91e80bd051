/** Programs that outlive the command that starts them. */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, statSync } from "node:fs";
import { fromErrno } from "../errors.js";
import { environment } from "./this-process.js";

const MAX_LOG = 1 << 20;

export interface BackgroundProgram {
  readonly pid: number | undefined;
  /** Whether it has ended already. */
  exited(): boolean;
}

/** Starts a program in a session of its own, without a terminal; with `env` added to the environment; what it says is added to `log`, which starts anew above 1 MiB. */
export function startDetached(
  command: readonly string[],
  log: string,
  env: Readonly<Record<string, string>> = {},
): BackgroundProgram {
  const [program, ...args] = command;
  let fd: number;
  try {
    const full = (statSync(log, { throwIfNoEntry: false })?.size ?? 0) > MAX_LOG;
    fd = openSync(log, full ? "w" : "a", 0o600);
  } catch (error) {
    throw fromErrno(`write ${JSON.stringify(log)}`, error);
  }
  const child = spawn(program!, args, {
    detached: true,
    stdio: ["ignore", fd, fd],
    cwd: "/",
    env: { ...environment(), ...env },
  });
  closeSync(fd);
  let ended = false;
  child.on("error", () => {
    ended = true;
  });
  child.on("exit", () => {
    ended = true;
  });
  child.unref();
  return { pid: child.pid, exited: () => ended };
}

/** The last line of a log, or nothing. */
export function lastLineOf(log: string): string {
  try {
    return readFileSync(log, "utf8").trim().split("\n").at(-1) ?? "";
  } catch {
    return "";
  }
}
