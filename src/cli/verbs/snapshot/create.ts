/** `xvd snapshot create`: of what the disk holds now. */
import type { Command } from "commander";
import { printJson, printLines } from "../../print.js";
import { addSnapshotOptions, type SnapshotFlags } from "./options.js";

export default function create(command: Command): void {
  addSnapshotOptions(command)
    .argument("<name>", "its name")
    .addHelpText("after", "\nWritten in the image itself; the disk goes on from there.")
    .action(async (file: string, name: string, flags: SnapshotFlags) => {
      const { createSnapshot } = await import("../../../stack/snapshots.js");
      const { dryRun = false } = flags;
      await createSnapshot(file, name, flags);
      if (flags.json) return printJson({ filename: file, snapshot: name, "dry-run": dryRun });
      printLines([`${file}: ${dryRun ? "would make" : "made"} snapshot ${name}`]);
    });
}
