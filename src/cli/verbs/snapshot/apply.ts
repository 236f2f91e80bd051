/** `xvd snapshot apply`: the disk becomes what it was then. */
import type { Command } from "commander";
import { printJson, printLines } from "../../print.js";
import { addSnapshotOptions, type SnapshotFlags } from "./options.js";

export default function apply(command: Command): void {
  addSnapshotOptions(command)
    .argument("<name>", "its name or number")
    .addHelpText("after", "\nWhat was written since then, and is in no snapshot of its own, is gone.")
    .action(async (file: string, name: string, flags: SnapshotFlags) => {
      const { applySnapshot } = await import("../../../stack/snapshots.js");
      const { dryRun = false } = flags;
      await applySnapshot(file, name, flags);
      if (flags.json) return printJson({ filename: file, snapshot: name, "dry-run": dryRun });
      printLines([`${file}: ${dryRun ? "would go back to" : "went back to"} snapshot ${name}`]);
    });
}
