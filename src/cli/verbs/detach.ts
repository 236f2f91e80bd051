/** `xvd detach`: refuses while somebody uses the device, and names the user. */
import type { Command } from "commander";
import { dom0Client } from "../dom0.js";
import { printResult } from "../print.js";
import { absoluteDisk } from "./attach.js";

export default function define(command: Command): void {
  command
    .argument("<device>", "xvdX, /dev/xvdX, or the disk that was attached")
    .option("--domain <name|id>", "the domain that has it (default: whichever has it)")
    .option("--force", "also while in use, and without asking the guest")
    .action(async (which: string, options: { domain?: string; force?: boolean; json?: boolean }) => {
      const name = /^(\/dev\/)?(xvd|hd|sd)[a-z]+\d*$|^\d+$|^d\d+(p\d+)?$/.test(which) ? which : absoluteDisk(which);
      const device = await dom0Client({ autostart: false }).detach(name, options);
      printResult(options.json, device, () => [
        `${device.device} is detached from ${device.domain}, ${device.disk} is free`,
      ]);
    });
}
