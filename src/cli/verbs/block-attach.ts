/** `xvd block-attach`: a disk in xl's own words, hotplugged into a domain. */
import type { Command } from "commander";
import { COMMAND_LINE, parseDiskSpec } from "../../xen/xl/disk.js";
import { deviceLines, dom0Client } from "../dom0.js";
import { printResult } from "../print.js";
import { attachOfDisk } from "../xl-disk.js";

export const SPEC_HELP = `
A disk specification is xl's (xl-disk-configuration): [KEY=VALUE|FLAG,]... [TARGET,[FORMAT,[VDEV,[ACCESS]]]] [target=REST]
  format=raw|qcow2|vhd  default by the file's name; an image on another one is attached by xvd attach --allow-backing
  vdev=xvda             xvdX[N], sdX, hdX, dNpM or a number
  access=rw|ro          w, r as well
  devtype=cdrom|disk    a cdrom is removable and read-only; an empty drive is refused
  backendtype=phy|qdisk both are served by our backend below backend/vbd; tap and standalone are refused
  no-discard            the backend offers no discard; discard, the default, for writable disks
  direct-io-safe        past this host's page cache (O_DIRECT)
  untrusted             written for the drivers to see
  target=REST           must be last, may have commas and blanks
script=, backend=DOMAIN, specification=virtio and colo are refused with the reason.
A relative target lies in the folder of the configuration file, or of this command; failing that, it is a block device in /dev.`;

export default function define(command: Command): void {
  command
    .argument("<domain>", "name or id")
    .argument("<diskspec...>", "several specifications make up one disk")
    .addHelpText("after", SPEC_HELP)
    .action(async (domain: string, specs: string[], options: { json?: boolean }) => {
      const request = attachOfDisk(parseDiskSpec(specs, COMMAND_LINE), process.cwd());
      const device = await dom0Client({ autostart: true }).attach({ ...request, domain });
      printResult(options.json, device, () => [...deviceLines(device), `socket ${device.socket}`]);
    });
}
