/** `xvd dom0 stop`: detaches everything, flushes, and ends the daemon. */
import type { Command } from "commander";
import { dom0Client } from "../../dom0.js";
import { printResult } from "../../print.js";

export default function define(command: Command): void {
  command.action(async (options: { json?: boolean }) => {
    const stopped = await dom0Client({ autostart: false }).stop();
    printResult(options.json, { stopped }, () => [stopped ? "Dom0 has stopped" : "Dom0 was not running"]);
  });
}
