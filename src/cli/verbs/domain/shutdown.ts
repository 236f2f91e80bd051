/** `xvd domain shutdown`: the guest closes its disks and ends; with --reboot it starts again. */
import type { Command } from "commander";
import { dom0Client } from "../../dom0.js";
import { printResult } from "../../print.js";

export default function define(command: Command): void {
  command
    .argument("<domain>", "name or id")
    .option("--reboot", "the same domain starts again, under a new id")
    .addHelpText(
      "after",
      "\nThe guest is asked through its store (control/shutdown), closes its sockets, flushes its disks and ends; then they are\nfree. One that does not answer is ended with 'xvd domain destroy'.\nExample: xvd domain shutdown web1",
    )
    .action(async (domain: string, { json, reboot = false }: { json?: boolean; reboot?: boolean }) => {
      await dom0Client({ autostart: false }).shutdown(domain, { reboot });
      const what = reboot ? { rebooted: domain } : { shutdown: domain };
      printResult(json, what, () => [`domain ${domain} ${reboot ? "has started again" : "has shut down"}`]);
    });
}
