/** `xvd part rm`: removes a partition's entry; its contents stay on the disk. */
import type { Command } from "commander";
import { planRemove } from "../../../partitions/changes/remove.js";
import { parseNumber } from "./add.js";
import { addDiskOptions, requireTable, warnProblems, withDisk } from "./open-table.js";
import { type ChangeOptions, runPlan } from "./run-plan.js";

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .argument("<number>", "the partition's number", parseNumber)
    .option("--dry-run", "print what would be written")
    .addHelpText(
      "after",
      "\nThe others keep their numbers, but for logical partitions of an MBR: theirs are places in a chain.",
    )
    .action((disk: string, number: number, options: ChangeOptions) =>
      withDisk(disk, { ...options, writable: !options.dryRun }, async (device) => {
        const table = await requireTable(device, options);
        warnProblems(disk, table);
        await runPlan(disk, device, planRemove(table, number), options);
      }),
    );
};
