/** `xvd part verify`: everything that is wrong with a partition table. */
import type { Command } from "commander";
import type { BlockDevice } from "../../../block/device.js";
import { DiskError } from "../../../errors.js";
import { pathExists } from "../../../os/paths.js";
import { type PartitionTable, readPartitionTable } from "../../../partitions/table.js";
import { Exit } from "../../exit.js";
import { printJson, printLines } from "../../print.js";
import { defaultJournal } from "./cut-move.js";
import { addDiskOptions, type DiskOptions, withDisk } from "./open-table.js";

interface Finding {
  readonly code: string;
  readonly level: "damage" | "note";
  readonly message: string;
}

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .option("--force-share", "read although somebody else may be writing")
    .addHelpText(
      "after",
      "\nExit code: 0 nothing is damaged (there may be notes), 1 something is, or there is no table.",
    )
    .action(async (disk: string, options: DiskOptions & { json?: boolean }) => {
      const { table, findings: ofTable } = await withDisk(disk, options, (device) => inspect(device, options));
      const findings = [...ofTable, ...cutMove(disk)];
      const clean = findings.every(({ level }) => level === "note");
      if (options.json) printJson({ clean, label: table?.label ?? null, problems: findings });
      else
        printLines([
          ...findings.map(({ level, message }) => `${disk}: ${level === "note" ? "note: " : ""}${message}`),
          clean
            ? `${disk}: the ${table!.label} table with ${table!.partitions.length} partitions is good`
            : `${disk}: damaged; xvd part repair mends what can be mended`,
        ]);
      if (!clean) throw new Exit(1);
    });
};

function cutMove(disk: string): Finding[] {
  const journal = defaultJournal(disk);
  if (journal === null || !pathExists(journal)) return [];
  const message = `a move was cut (${journal}), xvd part move --resume goes on, --rollback undoes it`;
  return [{ code: "cut-move", level: "damage", message }];
}

/** A table that cannot be read is a finding, not a failure. */
async function inspect(
  device: BlockDevice,
  options: DiskOptions,
): Promise<{ table: PartitionTable | null; findings: readonly Finding[] }> {
  try {
    const table = await readPartitionTable(device, options.sectorSize ? { sectorSize: options.sectorSize } : {});
    if (table) return { table, findings: table.problems };
    return { table, findings: [{ code: "no-table", level: "damage", message: "there is no partition table" }] };
  } catch (error) {
    if (!(error instanceof DiskError) || error.code !== "CORRUPT") throw error;
    return { table: null, findings: [{ code: "unreadable", level: "damage", message: error.message }] };
  }
}
