/** `xvd part list`: the table as sfdisk prints it in JSON, or a listing and a picture for people. */
import type { Command } from "commander";
import type { BlockDevice } from "../../../block/device.js";
import { toSfdiskJson } from "../../../partitions/sfdisk-json.js";
import type { PartitionTable } from "../../../partitions/table.js";
import { printLines } from "../../print.js";
import { addDiskOptions, type DiskOptions, requireTable, warnProblems, withDisk } from "./open-table.js";

interface ListOptions extends DiskOptions {
  readonly json?: boolean;
}

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .option("--force-share", "read although somebody else may be writing")
    .addHelpText("after", "\n--json prints what sfdisk --json prints: start and size in sectors.")
    .action((disk: string, options: ListOptions) =>
      withDisk(disk, options, async (device) => {
        const table = await requireTable(device, options);
        warnProblems(disk, table);
        if (options.json) process.stdout.write(`${JSON.stringify(toSfdiskJson(table, disk), null, 3)}\n`);
        else printLines(await forPeople(disk, device, table));
      }),
    );
};

async function forPeople(disk: string, device: BlockDevice, table: PartitionTable): Promise<string[]> {
  const { printTable } = await import("./print-table.js");
  return printTable(disk, device, table, process.stdout.columns ?? 100);
}
