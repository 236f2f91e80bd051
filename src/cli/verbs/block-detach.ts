/** `xvd block-detach`: as `xl block-detach`. */
import type { Command } from "commander";
import { DiskError } from "../../errors.js";
import { parseVdev } from "../../xen/blkif/vdev.js";
import { dom0Client } from "../dom0.js";
import { printResult } from "../print.js";

export default function define(command: Command): void {
  command
    .argument("<domain>", "name or id")
    .argument("<vdev>", "the device's name or number: xvda, d0p1, 51712")
    .option("-f, --force", "also while in use, and without asking the guest")
    .action(async (domain: string, vdev: string, options: { force?: boolean; json?: boolean }) => {
      const client = dom0Client({ autostart: false });
      const number = numberOf(vdev);
      const connected = (await client.blockDevices(domain)).some(({ devid }) => devid === number);
      if (!connected) throw new DiskError("NOT_FOUND", `Device ${vdev} not connected.`, { details: { domain, vdev } });
      const device = await client.detach(String(number), { domain, force: options.force === true });
      printResult(options.json, device, () => [
        `${device.device} is detached from ${device.domain}, ${device.disk} is free`,
      ]);
    });
}

/** Null for what is no device at all: then none of that name is connected either, as xl says. */
function numberOf(vdev: string): number | null {
  try {
    return parseVdev(vdev).number;
  } catch {
    return null;
  }
}
