/** `xvd part repair`: from the surviving GPT copy; when there is none, a proposal from what is found on the disk. */
import { randomBytes } from "node:crypto";
import type { Command } from "commander";
import type { BlockDevice } from "../../../block/device.js";
import { DiskError } from "../../../errors.js";
import { planApply } from "../../../partitions/changes/apply.js";
import { planRepair, planSalvage } from "../../../partitions/changes/repair.js";
import type { TablePlan } from "../../../partitions/plan.js";
import { type PartitionTable, readPartitionTable } from "../../../partitions/table.js";
import { addDiskOptions, withDisk } from "./open-table.js";
import { type ChangeOptions, runPlan } from "./run-plan.js";
import { searchFilesystems } from "./search.js";

interface RepairOptions extends ChangeOptions {
  readonly accept?: boolean;
}

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .option("--accept", "write a table that is only proposed, because no copy of the old one is left")
    .option("--dry-run", "print what would be written")
    .action((disk: string, options: RepairOptions) =>
      withDisk(disk, { ...options, writable: !options.dryRun }, async (device) => {
        const { plan, certain } = await planFor(device, options);
        if (certain || options.accept) return runPlan(disk, device, plan, options);
        await runPlan(disk, device, plan, { ...options, dryRun: true });
        throw new DiskError(
          "DENIED",
          `Cannot repair ${disk} without a choice: both copies of the table are bad, the one above is proposed; --accept writes it`,
        );
      }),
    );
};

async function planFor(device: BlockDevice, options: RepairOptions): Promise<{ plan: TablePlan; certain: boolean }> {
  const table = await readable(device, options);
  if (table) return { plan: planRepair(table, randomBytes), certain: true };
  const salvaged = await planSalvage(device, randomBytes, options.sectorSize ? { sectorSize: options.sectorSize } : {});
  if (salvaged) return salvaged;
  const lines = await searchFilesystems(device);
  if (lines.length === 0)
    throw new DiskError(
      "NOT_FOUND",
      `Cannot repair ${device.label}: there is no partition table, no part of one, and no file system was found`,
    );
  return {
    plan: planApply(device, null, { label: "gpt", sectorSize: options.sectorSize, lines }, randomBytes),
    certain: false,
  };
}

async function readable(device: BlockDevice, options: RepairOptions): Promise<PartitionTable | null> {
  try {
    return await readPartitionTable(device, options.sectorSize ? { sectorSize: options.sectorSize } : {});
  } catch (error) {
    if (error instanceof DiskError && error.code === "CORRUPT") return null;
    throw error;
  }
}
