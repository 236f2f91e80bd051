/** `xvd snapshot list`: the snapshots that an image holds. The JSON has qemu-img's keys. */
import type { Command } from "commander";
import { printJson, printLines } from "../../print.js";
import { snapshotLines } from "../../snapshots.js";

interface Flags {
  format?: string;
  forceShare?: boolean;
  json?: boolean;
}

export default function list(command: Command): void {
  command
    .argument("<file>", "the image")
    .option("-f, --format <format>", "format of the image; default by its extension")
    .option("--force-share", "read although somebody else writes")
    .action(async (file: string, flags: Flags) => {
      const { listSnapshots } = await import("../../../stack/snapshots.js");
      const { snapshotDocument } = await import("../../../stack/image-facts.js");
      const snapshots = await listSnapshots(file, flags);
      if (flags.json) return printJson(snapshots.map(snapshotDocument));
      printLines(snapshots.length === 0 ? [`${file}: no snapshots`] : snapshotLines(snapshots));
    });
}
