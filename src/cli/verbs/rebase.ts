/** `xvd rebase`: an overlay gets another backing image and shows the same; with -u only the name is changed. */
import type { Command } from "commander";
import { formatSize } from "../../bytes/size.js";
import { interruptible } from "../interrupt.js";
import { printJson, printLines } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags {
  format?: string;
  backing: string;
  backingFormat?: string;
  unsafe?: boolean;
  allowBacking?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

export default function rebase(command: Command): void {
  command
    .argument("<overlay>", "the image on top")
    .requiredOption("-b, --backing <file>", 'the new image beneath, a relative path starts at the overlay; "" for none')
    .option("-F, --backing-format <format>", "its format; default by its extension")
    .option("-u, --unsafe", "change the name only: the new image shows what the old one showed")
    .option("-f, --format <format>", "format of the overlay; default by its extension")
    .option("--allow-backing", "open files that images name: the old backing image, needed without -u")
    .option("--dry-run", "tell what would be done")
    .action((overlay: string, flags: Flags) => run(overlay, flags));
}

async function run(overlay: string, flags: Flags): Promise<void> {
  const { rebaseImage } = await import("../../stack/rebase-image.js");
  const { dryRun = false, backing: name, backingFormat, ...rest } = flags;
  const backing = name === "" ? null : { name, ...(backingFormat === undefined ? {} : { format: backingFormat }) };
  const { copied } = await interruptible(
    (signal) =>
      withProgress("rebase", flags, (report) => rebaseImage(overlay, { ...rest, backing, dryRun, signal, ...report })),
    "the overlay shows what it showed, on the image that it had",
  );
  if (flags.json) return printJson({ overlay, backing: backing && name, copied, "dry-run": dryRun });
  const what = backing ? `now lies on ${name}` : "has no backing file now";
  printLines([dryRun ? `${overlay} would be rebased` : `${overlay} ${what}: ${formatSize(copied)} of data taken over`]);
}
