/** `xvd snapshot delete`: forget a snapshot. */
import type { Command } from "commander";
import { printJson, printLines } from "../../print.js";
import { addSnapshotOptions, type SnapshotFlags } from "./options.js";

export default function remove(command: Command): void {
  addSnapshotOptions(command)
    .argument("<name>", "its name or number")
    .addHelpText("after", "\nThe disk itself stays as it is.")
    .action(async (file: string, name: string, flags: SnapshotFlags) => {
      const { deleteSnapshot } = await import("../../../stack/snapshots.js");
      const { dryRun = false } = flags;
      await deleteSnapshot(file, name, flags);
      if (flags.json) return printJson({ filename: file, snapshot: name, "dry-run": dryRun });
      printLines([`${file}: ${dryRun ? "would delete" : "deleted"} snapshot ${name}`]);
    });
}
