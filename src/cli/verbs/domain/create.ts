/** `xvd domain create`: a guest of the simulated host, with the disks of its xl.cfg when one is given. */
import { dirname, resolve } from "node:path";
import type { Command } from "commander";
import type { CreateDomainRequest, DomainInfo } from "../../../dom0/api-types.js";
import { DiskError } from "../../../errors.js";
import type { XlConfig } from "../../../xen/xl/config.js";
import { deviceLines, dom0Client } from "../../dom0.js";
import { printResult, remark } from "../../print.js";

interface CreateOptions {
  readonly config?: string;
  readonly json?: boolean;
}

export default function define(command: Command): void {
  command
    .argument("[name]", "letters, digits and _ . : + -; default: the name in the configuration")
    .option(
      "--config <file>",
      "an xl.cfg: name, type, uuid, memory, maxmem, vcpus and the disk list; - for standard input",
    )
    .addHelpText(
      "after",
      "\nThe disks are attached in order; when one fails there is no domain. 'xvd block-attach --help' tells what a disk\nspecification means here. Memory and vcpus are what the store tells the guest; every guest has PV drivers.",
    )
    .action(async (name: string | undefined, options: CreateOptions) => {
      const request = options.config === undefined ? { name } : await requestOfFile(name, options.config);
      if (request.name === undefined)
        throw new DiskError(
          "UNSUPPORTED",
          "Cannot create a domain: it has no name, allowed NAME, or name= in --config",
          {
            details: { usage: true },
          },
        );
      const domain = await dom0Client({ autostart: true }).createDomain({ ...request, name: request.name });
      printResult(options.json, domain, () => domainLines(domain));
    });
}

type Unnamed = Omit<CreateDomainRequest, "name"> & { readonly name: string | undefined };

async function requestOfFile(name: string | undefined, file: string): Promise<Unnamed> {
  const [{ readText }, { parseXlConfig }, { attachOfDisk }] = await Promise.all([
    import("../part/read-text.js"),
    import("../../../xen/xl/config.js"),
    import("../../xl-disk.js"),
  ]);
  const config = parseXlConfig((await readText(file, true))!, file === "-" ? "standard input" : file);
  if (name !== undefined && config.name !== null && name !== config.name)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot create domain ${name}: ${config.source} names it ${JSON.stringify(config.name)}, allowed the same name or none`,
      { details: { usage: true } },
    );
  const folder = file === "-" ? process.cwd() : dirname(resolve(file));
  const disks = config.disks.map((disk) => attachOfDisk(disk, folder));
  warn(config);
  return { name: name ?? config.name ?? undefined, config: identityOf(config), disks };
}

function identityOf({ type, uuid, memory, maxmem, vcpus }: XlConfig): NonNullable<CreateDomainRequest["config"]> {
  return {
    ...(type === null ? {} : { type }),
    ...(uuid === null ? {} : { uuid }),
    ...(memory === null ? {} : { memory }),
    ...(maxmem === null ? {} : { maxmem }),
    ...(vcpus === null ? {} : { vcpus }),
  };
}

function warn({ source, ignored, type }: XlConfig): void {
  if (ignored.length > 0)
    remark(`xvd: ${source}: ignored, nothing here depends on it: ${ignored.map(({ key }) => key).join(" ")}`);
  if (type === "hvm") remark(`xvd: ${source}: type is hvm: the guest has PV drivers alone, no emulated disks`);
}

function domainLines(domain: DomainInfo): string[] {
  return [`domain ${domain.name} runs with id ${domain.domid}`, ...domain.devices.flatMap(deviceLines)];
}
