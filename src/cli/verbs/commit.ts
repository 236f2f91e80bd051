/** `xvd commit`: what an overlay holds goes into the image beneath it. */
import type { Command } from "commander";
import { formatSize } from "../../bytes/size.js";
import { interruptible } from "../interrupt.js";
import { printJson, printLines } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags {
  format?: string;
  allowBacking?: boolean;
  keep?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

export default function commit(command: Command): void {
  command
    .argument("<overlay>", "the image on top")
    .option("-f, --format <format>", "format of the overlay; default by its extension")
    .option("--allow-backing", "open files that the image names")
    .option("-d, --keep", "leave the overlay as it is: it is going to be deleted")
    .option("--dry-run", "tell what would be done")
    .addHelpText(
      "after",
      "\nOther overlays on the same image show garbage afterwards. Interrupted, it can be repeated: the overlay is emptied last.",
    )
    .action((overlay: string, flags: Flags) => run(overlay, flags));
}

async function run(overlay: string, flags: Flags): Promise<void> {
  const { commitImage } = await import("../../stack/commit-image.js");
  const { dryRun = false } = flags;
  const { backing, copied, zeroed, emptied } = await interruptible(
    (signal) => withProgress("commit", flags, (report) => commitImage(overlay, { ...flags, signal, ...report })),
    "the overlay shows what it showed, commit again to go on",
  );
  if (flags.json) return printJson({ overlay, backing, copied, zeroed, emptied, "dry-run": dryRun });
  printLines([`${dryRun ? "would commit" : "committed"} ${overlay} to ${backing}: ${formatSize(copied)} of data`]);
}
