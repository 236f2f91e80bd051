/** `xvd domain create`: a guest of the simulated host, with a block driver and no disks. */
import type { Command } from "commander";
import { dom0Client } from "../../dom0.js";
import { printResult } from "../../print.js";

export default function define(command: Command): void {
  command
    .argument("<name>", "letters, digits and _ . : + -")
    .action(async (name: string, options: { json?: boolean }) => {
      const domain = await dom0Client({ autostart: true }).createDomain(name);
      printResult(options.json, domain, () => [`domain ${domain.name} runs with id ${domain.domid}`]);
    });
}
