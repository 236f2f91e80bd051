/** `xvd dom0 start`: starts the daemon, or is the daemon with --foreground. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import { dom0Client, userPaths } from "../../dom0.js";
import { printResult } from "../../print.js";

export default function define(command: Command): void {
  command
    .option("--foreground", "run here until interrupted, and log to stderr")
    .addHelpText(
      "after",
      "\nOther commands start it by themselves when they need it.\nStock xenstore clients: XENSTORED_PATH=$XVD_RUN/xenstored/socket xenstore-ls",
    )
    .action(async (options: { foreground?: boolean; json?: boolean }) => {
      if (options.foreground) return runDaemon();
      const client = dom0Client({ autostart: true });
      const before = await client.status();
      const status = before ?? (await client.ensureRunning());
      const { describeFound } = await import("../../../dom0/found.js");
      if (!before && status.found) process.stderr.write(`xvd dom0 start: ${describeFound(status.found)}\n`);
      printResult(options.json, status, () => [
        `Dom0 ${before ? "runs already" : "runs"} with pid ${status.pid}, xenstored at ${status.xenstored}`,
      ]);
    });
}

async function runDaemon(): Promise<void> {
  const { startDaemon } = await import("../../../dom0/daemon.js");
  const log = (message: string) => process.stderr.write(`${message}\n`);
  const daemon = await startDaemon({
    paths: userPaths(),
    pid: process.pid,
    started: new Date().toISOString(),
    newToken: randomUUID,
    log,
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => void daemon.stop().catch((error: Error) => log(error.message)));
  await daemon.stopped;
}
