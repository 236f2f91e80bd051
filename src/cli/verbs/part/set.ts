/** `xvd part set`: name, type, identity and flags of a partition. */
import type { Command } from "commander";
import { parseAttributes } from "../../../partitions/attributes.js";
import { planSet } from "../../../partitions/changes/set.js";
import { usageError } from "../../../partitions/plan.js";
import { parseNumber } from "./add.js";
import { addDiskOptions, requireTable, warnProblems, withDisk } from "./open-table.js";
import { type ChangeOptions, runPlan } from "./run-plan.js";

interface SetOptions extends ChangeOptions {
  readonly name?: string;
  readonly type?: string;
  readonly uuid?: string;
  readonly attrs?: bigint;
  readonly bootable?: boolean;
}

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .argument("<number>", "the partition's number", parseNumber)
    .option("--name <name>", "GPT: up to 36 characters; '' for none")
    .option("--type <type>", "alias, GUID, or MBR byte")
    .option("--uuid <uuid>", "GPT: identity of the partition")
    .option("--attrs <names>", "GPT: the attributes that it then has; '' for none", parseAttributes)
    .option("--bootable", "MBR: the active partition; GPT: legacy BIOS bootable")
    .option("--no-bootable", "takes the flag away")
    .option("--dry-run", "print what would be written")
    .action((disk: string, number: number, options: SetOptions) => {
      const { name, type, uuid, attrs: attributes, bootable } = options;
      if ([name, type, uuid, attributes, bootable].every((value) => value === undefined))
        throw usageError(
          "Cannot change a partition: nothing to set, allowed are --name --type --uuid --attrs --bootable",
        );
      return withDisk(disk, { ...options, writable: !options.dryRun }, async (device) => {
        const table = await requireTable(device, options);
        warnProblems(disk, table);
        await runPlan(disk, device, planSet(table, number, { name, type, uuid, attributes, bootable }), options);
      });
    });
};
