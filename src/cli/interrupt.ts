/** SIGINT and SIGTERM in the middle of a command: the work is told to stop, cleans up after itself, and the exit code says which signal it was. */
import { constants } from "node:os";
import { DiskError } from "../errors.js";
import { Exit } from "./exit.js";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Runs `work` with a signal that is aborted by Ctrl-C; then one line tells, and the command exits with 128 + the signal's number.
 * `outcome`: what is true after an interruption; an error that `work` makes of it tells that itself.
 */
export async function interruptible<T>(
  work: (signal: AbortSignal) => Promise<T>,
  outcome = "nothing half-written is left",
): Promise<T> {
  const controller = new AbortController();
  let received: NodeJS.Signals | undefined;
  let count = 0;
  const stop = (signal: NodeJS.Signals) => {
    received ??= signal;
    controller.abort(new Error("interrupted"));
    // A disk that does not answer must not hold a person for ever; nameless files go with the process.
    if (++count === 2) process.stderr.write("xvd: cleaning up; once more ends at once\n");
    if (count > 2) process.exit(128 + constants.signals[signal]);
  };
  for (const signal of SIGNALS) process.on(signal, stop);
  try {
    return await work(controller.signal);
  } catch (error) {
    if (!received) throw error;
    const told = error instanceof DiskError && error.details.interrupted === true ? error.message : outcome;
    process.stderr.write(`xvd: interrupted by ${received}, ${told}\n`);
    throw new Exit(128 + constants.signals[received]);
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop);
  }
}
