/** `xvd domain restore`: a saved guest goes on. */
import { resolve } from "node:path";
import type { Command } from "commander";
import { deviceLines, dom0Client } from "../../dom0.js";
import { interruptible } from "../../interrupt.js";
import { printResult } from "../../print.js";

interface RestoreOptions {
  readonly paused?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

export default function define(command: Command): void {
  command
    .argument("<file>", "of 'xvd domain save'")
    .option("--paused", "do not run it yet")
    .option("--force", "also when a disk has changed since it was saved")
    .addHelpText(
      "after",
      "\nThe domain comes back with its name and its disks, under a new id. What its disks had not answered is written before\nanybody can use them. The file stays as it is. A disk that was changed since the domain was saved is refused: the guest\nmight destroy what was written.\nExample: xvd domain restore web1.sav",
    )
    .action(async (file: string, { json, paused = false, force = false }: RestoreOptions) => {
      const request = { file: resolve(file), paused, force };
      const domain = await interruptible(
        (signal) => dom0Client({ autostart: true }).restore(request, signal),
        "the domain is not restored and its file is as it was",
      );
      printResult(json, domain, () => [
        `domain ${domain.name} ${paused ? "is paused" : "runs"} with id ${domain.domid}`,
        ...domain.devices.flatMap(deviceLines),
      ]);
    });
}
