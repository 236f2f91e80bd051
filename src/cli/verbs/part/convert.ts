/** `xvd part convert`: GPT to MBR and back, and sectors of 512 to 4096 bytes and back. */
import { randomBytes } from "node:crypto";
import type { Command } from "commander";
import { planConvert } from "../../../partitions/changes/convert.js";
import { usageError } from "../../../partitions/plan.js";
import { findTableFormat } from "../../../partitions/registry.js";

import { parseSectorSize, requireTable, warnProblems, withDisk } from "./open-table.js";
import { type ChangeOptions, runPlan } from "./run-plan.js";

export default (command: Command): void => {
  command
    .argument("<disk>", "image file or device")
    .argument("[label]", "gpt, or mbr (dos)")
    .option("-f, --format <fmt>", "image format (default: by extension; raw for .dsk .img .raw)")
    .option("--sector-size <bytes>", "the sector size that the table then has: 512 or 4096", parseSectorSize)
    .option("--dry-run", "print what would be written")
    .addHelpText("after", "\nEvery partition keeps its bytes and, where the new table allows it, its number.")
    .action((disk: string, label: string | undefined, options: ChangeOptions) =>
      withDisk(disk, { ...options, writable: !options.dryRun }, async (device) => {
        if (label === undefined && options.sectorSize === undefined)
          throw usageError("Cannot convert: name gpt, mbr or a --sector-size");
        const format = label === undefined ? undefined : findTableFormat(label);
        if (label !== undefined && !format)
          throw usageError(`Cannot convert to ${JSON.stringify(label)}: allowed are gpt and mbr`);
        const table = await requireTable(device, {});
        warnProblems(disk, table);
        await runPlan(
          disk,
          device,
          planConvert(table, { label: format?.label, sectorSize: options.sectorSize }, randomBytes),
          options,
        );
      }),
    );
};
