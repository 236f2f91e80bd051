/** `xvd part init`: an empty GPT or MBR. */
import { randomBytes } from "node:crypto";
import type { Command } from "commander";
import type { BlockDevice } from "../../../block/device.js";
import { DiskError } from "../../../errors.js";
import { planInit } from "../../../partitions/changes/init.js";
import { type PartitionTable, readPartitionTable } from "../../../partitions/table.js";
import { addDiskOptions, withDisk } from "./open-table.js";
import { refuseFilesystem } from "./refuse-filesystem.js";
import { type ChangeOptions, runPlan } from "./run-plan.js";

interface InitOptions extends ChangeOptions {
  readonly force?: boolean;
  readonly id?: string;
}

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .argument("<label>", "gpt, or mbr (dos)")
    .option("--force", "replace a partition table or file system that is there")
    .option("--id <id>", "identity of the disk: a GUID for gpt, 0x1234abcd for mbr (default: a new one)")
    .option("--dry-run", "print what would be written")
    .addHelpText("after", "\nExamples:\n  xvd part init guest.dsk gpt\n  xvd part init old.dsk mbr --force")
    .action((disk: string, label: string, options: InitOptions) =>
      withDisk(disk, { ...options, writable: !options.dryRun }, async (device) => {
        const before = await tableBefore(device, options.force ?? false);
        if (!before && !options.force) await refuseFilesystem(device);
        const { force, sectorSize, id } = options;
        await runPlan(
          disk,
          device,
          planInit(device, before, { format: label, force, sectorSize, id }, randomBytes),
          options,
        );
      }),
    );
};

/** A damaged table counts as one: it is replaced only by force. */
async function tableBefore(device: BlockDevice, force: boolean): Promise<PartitionTable | null> {
  try {
    return await readPartitionTable(device);
  } catch (error) {
    if (!(error instanceof DiskError) || error.code !== "CORRUPT") throw error;
    if (force) return null;
    throw new DiskError("DENIED", `${error.message}; --force replaces it`, { details: error.details, cause: error });
  }
}
