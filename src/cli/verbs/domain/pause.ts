/** `xvd domain pause`: a guest's vcpu stops where it is. */
import type { Command } from "commander";
import { dom0Client } from "../../dom0.js";
import { printResult } from "../../print.js";

export default function define(command: Command): void {
  command
    .argument("<domain>", "name or id")
    .addHelpText(
      "after",
      "\nIts sockets take connections and answer nothing until it runs again. It can be listed and destroyed meanwhile.\nExample: xvd domain pause web1",
    )
    .action(async (domain: string, options: { json?: boolean }) => {
      await dom0Client({ autostart: false }).pause(domain);
      printResult(options.json, { paused: domain }, () => [`domain ${domain} is paused`]);
    });
}
