/** `xvd part dump`: the table as an sfdisk script. */
import type { Command } from "commander";
import { printScript } from "../../../partitions/script/sfdisk-script.js";
import { toSfdiskJson } from "../../../partitions/sfdisk-json.js";
import { addDiskOptions, type DiskOptions, requireTable, warnProblems, withDisk } from "./open-table.js";

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .option("--force-share", "read although somebody else may be writing")
    .addHelpText("after", "\nExample:\n  xvd part dump a.dsk | xvd part apply b.dsk -")
    .action((disk: string, options: DiskOptions & { json?: boolean }) =>
      withDisk(disk, options, async (device) => {
        const table = await requireTable(device, options);
        warnProblems(disk, table);
        process.stdout.write(
          options.json ? `${JSON.stringify(toSfdiskJson(table, disk), null, 3)}\n` : printScript(table, disk),
        );
      }),
    );
};
