/** `xvd dom0 stop`: detaches everything, flushes, and ends the daemon. */
import type { Command } from "commander";
import { dom0Client } from "../../dom0.js";
import { printResult } from "../../print.js";

export default function define(command: Command): void {
  command
    .option("--force", "also while a block device in this host's kernel is mounted or open")
    .action(async ({ force = false, json }: { force?: boolean; json?: boolean }) => {
      const stopped = await dom0Client({ autostart: false }).stop({ force });
      printResult(json, { stopped }, () => [stopped ? "Dom0 has stopped" : "Dom0 was not running"]);
    });
}
