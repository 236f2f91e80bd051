/** `xvd domain unpause`: a paused guest runs again. */
import type { Command } from "commander";
import { dom0Client } from "../../dom0.js";
import { printResult } from "../../print.js";

export default function define(command: Command): void {
  command
    .argument("<domain>", "name or id")
    .addHelpText(
      "after",
      "\nA domain that is suspended, because somebody wrote that into its store, goes on as well.\nExample: xvd domain unpause web1",
    )
    .action(async (domain: string, options: { json?: boolean }) => {
      await dom0Client({ autostart: false }).unpause(domain);
      printResult(options.json, { unpaused: domain }, () => [`domain ${domain} runs`]);
    });
}
