/** `xvd compare`: whether two disks show the same bytes. Exit code 0 same, 1 different, 2 error. */
import type { Command } from "commander";
import type { Comparison } from "../../block/compare.js";
import { type DiskFlags, withDisk } from "../disk.js";
import { Exit } from "../exit.js";
import { interruptible } from "../interrupt.js";
import { printJson, printLines } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags extends DiskFlags {
  secondFormat?: string;
  strict?: boolean;
  json?: boolean;
  verbose?: boolean;
}

export default function compare(command: Command): void {
  command
    .argument("<a>", "a disk")
    .argument("<b>", "another disk")
    .option("-f, --format <format>", "format of the first; default by its extension")
    .option("-F, --second-format <format>", "format of the second")
    .option("--force-share", "read although somebody else writes")
    .option("--allow-backing", "open files that the images name")
    .option("-s, --strict", "different sizes are a difference; without it a tail of zeros is none")
    .addHelpText("after", "\nExit code: 0 same, 1 different, 2 error.")
    .action((a: string, b: string, flags: Flags) => run(a, b, flags));
}

async function run(a: string, b: string, flags: Flags): Promise<void> {
  const { same, firstDifference } = await interruptible((signal) => compareNamed(a, b, flags, signal));
  if (flags.json) printJson({ same, "first-difference": firstDifference });
  else printLines([same ? "the disks are the same" : `the disks differ, first at byte ${firstDifference}`]);
  if (!same) throw new Exit(1);
}

async function compareNamed(a: string, b: string, flags: Flags, signal: AbortSignal): Promise<Comparison> {
  const { compareDevices } = await import("../../block/compare.js");
  const { format, secondFormat, strict = false, ...shared } = flags;
  return withDisk(a, { ...shared, ...(format === undefined ? {} : { format }) }, (left) =>
    withDisk(b, { ...shared, ...(secondFormat === undefined ? {} : { format: secondFormat }) }, (right) =>
      withProgress("compare", flags, (report) =>
        compareDevices(left.device, right.device, { strict, signal, ...report }),
      ),
    ),
  );
}
