/** `xvd attach`: a disk becomes /dev/xvdX of a domain; success means that both ends of the driver are Connected. */
import { isAbsolute, resolve } from "node:path";
import { type Command, Option } from "commander";
import { DiskError } from "../../errors.js";
import { deviceLines, dom0Client } from "../dom0.js";
import { printResult } from "../print.js";

interface AttachOptions {
  readonly domain?: string;
  readonly vdev?: string;
  readonly access: "rw" | "ro";
  readonly kernel: "auto" | "always" | "never";
  readonly json?: boolean;
}

export default function define(command: Command): void {
  command
    .argument("<disk>", "image file, partition of one (guest.dsk#p2), or nbd:// URI")
    .option("--domain <name|id>", "the domain that gets it (default: Domain-0)")
    .option("--vdev <xvdX>", "device name (default: the first free letter)")
    .addOption(new Option("--access <mode>", "read-write or read-only").choices(["rw", "ro"]).default("rw"))
    .addOption(
      new Option("--kernel <when>", "a block device in this host's kernel")
        .choices(["auto", "always", "never"])
        .default("auto"),
    )
    .addHelpText(
      "after",
      "\nThe device is used as dom:NAME/xvdX in every command, and by NBD clients at the socket it prints.",
    )
    .action(async (disk: string, options: AttachOptions) => {
      if (options.kernel === "always")
        throw new DiskError(
          "UNSUPPORTED",
          `Cannot attach ${disk}: this version makes no kernel block devices, allowed --kernel auto and never`,
        );
      const device = await dom0Client({ autostart: true }).attach({
        disk: absoluteDisk(disk),
        access: options.access,
        ...(options.domain === undefined ? {} : { domain: options.domain }),
        ...(options.vdev === undefined ? {} : { vdev: options.vdev }),
      });
      printResult(options.json, device, () => [...deviceLines(device), `socket ${device.socket}`]);
    });
}

/** The daemon works in another folder: a file's name must not depend on this one. */
export function absoluteDisk(disk: string): string {
  return /^[a-z][a-z+0-9]*:/.test(disk) || isAbsolute(disk) ? disk : resolve(disk);
}
