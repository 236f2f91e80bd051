/** `xvd part resize`: moves a partition's end. */
import type { Command } from "commander";
import type { BlockDevice } from "../../../block/device.js";
import { formatSize, parseSize } from "../../../bytes/size.js";
import { DiskError } from "../../../errors.js";
import { type NewSize, planResize } from "../../../partitions/changes/resize.js";
import { findPartition, openPartition, type PartitionTable } from "../../../partitions/table.js";
import { parseNumber } from "./add.js";
import { addDiskOptions, requireTable, warnProblems, withDisk } from "./open-table.js";
import { type ChangeOptions, runPlan } from "./run-plan.js";

interface ResizeOptions extends ChangeOptions {
  readonly force?: boolean;
}

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .argument("<number>", "the partition's number", parseNumber)
    .argument("<size>", "10G, +1G, -500M (after --), or 100%FREE: up to what lies behind it", parseNewSize)
    .option("--force", "shrink below what the file system in it says it has")
    .option("--dry-run", "print what would be written")
    .addHelpText("after", "\nThe file system within is not changed: grow it afterwards, shrink it before.")
    .action((disk: string, number: number, size: NewSize, options: ResizeOptions) =>
      withDisk(disk, { ...options, writable: !options.dryRun }, async (device) => {
        const table = await requireTable(device, options);
        warnProblems(disk, table);
        const plan = planResize(table, number, size);
        if (!options.force) await refuseToCut(device, table, number, findPartition(plan.after, number).size);
        await runPlan(disk, device, plan, options);
      }),
    );
};

export function parseNewSize(text: string): NewSize {
  if (/^100%(FREE)?$/i.test(text)) return "all";
  if (text.startsWith("+")) return { by: parseSize(text.slice(1)) };
  return text.startsWith("-") ? { by: -parseSize(text.slice(1)) } : parseSize(text);
}

/** A file system that is larger than its partition has lost its end. */
async function refuseToCut(device: BlockDevice, table: PartitionTable, number: number, size: number): Promise<void> {
  const old = findPartition(table, number);
  if (size >= old.size || old.kind === "extended") return;
  const { identifyFilesystem } = await import("../../../filesystems/identify.js");
  const found = await identifyFilesystem(openPartition(device, table, number));
  if (!found || found.size === null || found.size <= size) return;
  const text = `the ${found.type} in it has ${formatSize(found.size)}, ${formatSize(size)} are asked for; shrink it first, or use --force`;
  throw new DiskError("DENIED", `Cannot resize partition ${number} of ${device.label}: ${text}`, {
    details: { number, filesystem: found.size },
  });
}
