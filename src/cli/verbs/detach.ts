/** `xvd detach`: refuses while somebody uses the device, and names the user. */
import type { Command } from "commander";
import { dom0Client } from "../dom0.js";
import { printResult } from "../print.js";
import { canonicalDisk } from "./attach.js";

export default function define(command: Command): void {
  command
    .argument("<device>", "xvdX, /dev/xvdX, dom:NAME/xvdX, or the disk that was attached")
    .option("--domain <name|id>", "the domain that has it (default: whichever has it)")
    .option("--force", "also while in use, and without asking the guest")
    .action(async (which: string, options: { domain?: string; force?: boolean; json?: boolean }) => {
      const { name, domain } = namedDevice(which);
      const device = await dom0Client({ autostart: false }).detach(name, { ...(domain ? { domain } : {}), ...options });
      printResult(options.json, device, () => [
        `${device.device} is detached from ${device.domain}, ${device.disk} is free`,
      ]);
    });
}

/** What the daemon looks for: a device by its name or number, with its domain in `dom:NAME/xvdX`, or a disk. */
function namedDevice(which: string): { name: string; domain?: string } {
  const attached = /^dom:([^/]+)\/([a-z]+\d*)$/.exec(which);
  if (attached) return { name: attached[2]!, domain: attached[1]! };
  const isDevice = /^(\/dev\/)?(xvd|hd|sd)[a-z]+\d*$|^\d+$|^d\d+(p\d+)?$/.test(which);
  return { name: isDevice ? which : canonicalDisk(which) };
}
