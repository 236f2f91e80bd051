/** `xvd domain destroy`: ends a guest as a power cut would, and frees its disks. */
import type { Command } from "commander";
import { dom0Client } from "../../dom0.js";
import { printResult } from "../../print.js";

export default function define(command: Command): void {
  command.argument("<name>", "name or id").action(async (name: string, options: { json?: boolean }) => {
    await dom0Client({ autostart: false }).destroyDomain(name);
    printResult(options.json, { destroyed: name }, () => [`domain ${name} is destroyed`]);
  });
}
