/** `xvd part apply`: makes a disk's table what a script, a JSON document or a short layout says. */
import { randomBytes } from "node:crypto";
import type { Command } from "commander";
import { planApply } from "../../../partitions/changes/apply.js";
import { parseLayout } from "../../../partitions/script/parse.js";
import { isShortLayout } from "../../../partitions/script/short-layout.js";
import { readPartitionTable } from "../../../partitions/table.js";
import { addDiskOptions, warnProblems, withDisk } from "./open-table.js";
import { readText } from "./read-text.js";
import { refuseFilesystem } from "./refuse-filesystem.js";
import { type ChangeOptions, runPlan } from "./run-plan.js";

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .argument("[script]", "a file, - for standard input, or a short layout: efi:512M,swap:2G,lvm:*", "-")
    .option("--force", "also on a disk that holds a file system without a table")
    .option("--dry-run", "print what would be written")
    .addHelpText(
      "after",
      "\nA file is an sfdisk script (sfdisk -d, xvd part dump) or JSON (sfdisk --json, xvd part list --json).\nThe disk's partitions become those of the script; what they hold is not touched.",
    )
    .action(async (disk: string, script: string, options: ChangeOptions & { force?: boolean }) => {
      const layout = parseLayout(await layoutText(script));
      await withDisk(disk, { ...options, writable: !options.dryRun }, async (device) => {
        const before = await readPartitionTable(device, options.sectorSize ? { sectorSize: options.sectorSize } : {});
        if (before) warnProblems(disk, before);
        else if (!options.force) await refuseFilesystem(device);
        await runPlan(disk, device, planApply(device, before, layout, randomBytes), options);
      });
    });
};

/** A file of that name wins over a layout. */
async function layoutText(script: string): Promise<string> {
  const text = await readText(script);
  if (text !== null) return text;
  if (isShortLayout(script)) return script;
  return (await readText(script, true))!;
}
