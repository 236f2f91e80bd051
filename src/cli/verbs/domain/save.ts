/** `xvd domain save`: a guest's state into a file; its disks are free afterwards. */
import { resolve } from "node:path";
import type { Command } from "commander";
import { formatSize } from "../../../bytes/size.js";
import { dom0Client } from "../../dom0.js";
import { interruptible } from "../../interrupt.js";
import { printResult } from "../../print.js";

interface SaveOptions {
  readonly leaveRunning?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

export default function define(command: Command): void {
  command
    .argument("<domain>", "name or id")
    .argument("<file>", "appears when it is complete")
    .option("--leave-running", "the domain goes on; restoring the file later needs --force once it has written")
    .option("--force", "replace an existing file")
    .addHelpText(
      "after",
      "\nThe file holds the configuration, what the guest wrote into its store, and the requests that its disks had not answered,\nwith their data. The disks' contents are not in it. Clients of its sockets are cut off; the domain is gone afterwards.\nExample: xvd domain save web1 web1.sav",
    )
    .action(async (domain: string, file: string, { json, leaveRunning = false, force = false }: SaveOptions) => {
      const request = { file: resolve(file), leaveRunning, force };
      const result = await interruptible(
        (signal) => dom0Client({ autostart: false }).save(domain, request, signal),
        "the domain goes on, unless it was saved by then: 'xvd domain list' tells",
      );
      printResult(json, { ...result, file }, () => [
        `domain ${domain} is saved in ${file} (${formatSize(result.size)}), ${result.running ? "it goes on" : "its disks are free"}`,
      ]);
    });
}
