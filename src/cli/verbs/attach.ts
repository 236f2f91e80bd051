/** `xvd attach`: a disk becomes /dev/xvdX of a domain; success means that both ends of the driver are Connected. */
import { type Command, Option } from "commander";
import type { AttachedDevice, AttachRequest, DeviceDetails } from "../../dom0/api-types.js";
import type { Dom0Client } from "../../dom0/client.js";
import { DiskError } from "../../errors.js";
import { canonicalPath, pathExists } from "../../os/paths.js";
import { parseDiskName } from "../../stack/disk-name.js";
import { deviceLines, dom0Client } from "../dom0.js";
import { printResult, remark } from "../print.js";

interface AttachOptions {
  readonly domain?: string;
  readonly vdev?: string;
  readonly access: "rw" | "ro";
  readonly kernel: "auto" | "always" | "never";
  readonly queues?: number;
  readonly ringOrder?: number;
  readonly direct?: boolean;
  readonly format?: string;
  readonly allowBacking?: boolean;
  readonly explain?: boolean;
  readonly json?: boolean;
}

export default function define(command: Command): void {
  command
    .argument("<disk>", "image file, partition of one (guest.dsk#p2), volume (lvm:vg0/root), or nbd:// URI")
    .option("--domain <name|id>", "the domain that gets it (default: Domain-0)")
    .option("--vdev <xvdX>", "device name (default: the first free letter)")
    .addOption(new Option("--access <mode>", "read-write or read-only").choices(["rw", "ro"]).default("rw"))
    .addOption(
      new Option("--kernel <when>", "a block device in this host's kernel")
        .choices(["auto", "always", "never"])
        .default("auto")
        .env("XVD_KERNEL"),
    )
    .option(
      "--queues <n>",
      "rings that the guest's driver asks for (default: one for each vcpu)",
      whole("queues", 1, 64),
    )
    .option("--ring-order <k>", "pages of each ring as a power of two, 0 to 4 (default: 0)", whole("ring order", 0, 4))
    .option("--direct", "read and write past this host's page cache (O_DIRECT), as xl's direct-io-safe does")
    .option("-f, --format <format>", "format of the image; .dsk .img .raw are raw, others go by their extension")
    .option("--allow-backing", "open files that the image names")
    .option("--explain", "show how it came about: states with times, keys, features, rings, grants, counters")
    .addHelpText(
      "after",
      "\nThe device is used as dom:NAME/xvdX in every command, and by NBD clients at the socket it prints.\nA failed attach with --explain prints its steps and states; with --json they are error.details.journal in any case.",
    )
    .action(async (disk: string, options: AttachOptions) => {
      const client = dom0Client({ autostart: true });
      const request: AttachRequest = {
        disk: canonicalDisk(disk),
        access: options.access,
        kernel: options.kernel,
        ...(options.domain === undefined ? {} : { domain: options.domain }),
        ...(options.vdev === undefined ? {} : { vdev: options.vdev.replace(/^\/dev\//, "") }),
        ...vbdOptions(options),
      };
      const device = await (options.explain ? attachExplained(client, request, options) : client.attach(request));
      const hidden = device["hidden-bytes"];
      if (hidden > 0)
        remark(
          `xvd attach: the last ${hidden === 1 ? "byte" : `${hidden} bytes`} of ${disk} does not fill a sector: the guest does not see it`,
        );
      if (isTaken(device, options.kernel))
        remark(`xvd attach: ${device.device} of this machine's kernel is another device, not ${disk}: see --vdev`);
      const explained = isExplained(device) ? (await import("../explain.js")).explainLines(device) : [];
      printResult(options.json, device, () => [
        ...deviceLines(device),
        `socket ${device.socket}`,
        ...kernelLine(device),
        ...explained,
      ]);
    });
}

/** Not where the kernel's device was not wanted; where it could not be had the sockets are all there is. */
function kernelLine({ "kernel-device": kernel, "kernel-problem": problem, device }: AttachedDevice): string[] {
  if (problem !== undefined) return [`kernel none: ${problem.replace(/^C/, "c")}`];
  return kernel === null ? [] : [`kernel ${kernel}${kernel === device ? "" : ` for ${device}`}`];
}

/** Whoever mounts /dev/xvdX would get somebody else's disk. */
function isTaken({ "kernel-device": kernel, device, domid }: AttachedDevice, wanted: AttachOptions["kernel"]): boolean {
  return wanted !== "never" && domid === 0 && kernel === null && pathExists(device);
}

function isExplained(device: AttachedDevice | DeviceDetails): device is DeviceDetails {
  return "journal" in device;
}

/** The error of a failed attach carries its steps and states; people see them before it. */
async function attachExplained(
  client: Dom0Client,
  request: AttachRequest,
  { json }: AttachOptions,
): Promise<AttachedDevice | DeviceDetails> {
  try {
    const device = await client.attach(request);
    const [details] = await client.details(String(device.domid), device.number);
    const problem = device["kernel-problem"];
    if (!details) return device; // gone again already
    return problem === undefined ? details : { ...details, "kernel-problem": problem };
  } catch (error) {
    const journal = error instanceof DiskError ? error.details.journal : undefined;
    if (!json && Array.isArray(journal)) for (const line of journal) remark(line);
    throw error;
  }
}

function vbdOptions({
  direct,
  format,
  allowBacking,
  queues,
  ringOrder,
}: AttachOptions): Pick<AttachRequest, "options"> {
  const options = {
    ...(direct ? { directIoSafe: true } : {}),
    ...(format === undefined ? {} : { format }),
    ...(allowBacking ? { allowBacking } : {}),
    ...(queues === undefined ? {} : { queues }),
    ...(ringOrder === undefined ? {} : { ringPageOrder: ringOrder }),
  };
  return Object.keys(options).length === 0 ? {} : { options };
}

function whole(what: string, least: number, most: number): (text: string) => number {
  return (text) => {
    if (/^\d{1,4}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text);
    throw new DiskError("UNSUPPORTED", `Cannot attach: ${what} is ${JSON.stringify(text)}, allowed ${least}..${most}`, {
      details: { usage: true },
    });
  };
}

/** The daemon works in another folder, and a file has one name for it: links are followed. Other disks keep the name they have. */
export function canonicalDisk(disk: string): string {
  const { base } = parseDiskName(disk, pathExists);
  return base.kind === "file" ? canonicalPath(base.path) + disk.slice(base.path.length) : disk;
}
