/** `xvd compare`: whether two disks show the same bytes. Exit code 0 same, 1 different, 2 error. */
import type { Command } from "commander";
import { type DiskFlags, openNamed } from "../disk.js";
import { interruptible } from "../interrupt.js";
import { printJson, printLines } from "../print.js";
import { progressBar } from "../progress.js";
import { Exit, reportError } from "../report.js";

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
  try {
    await interruptible((signal) => compareNamed(a, b, flags, signal));
  } catch (error) {
    if (error instanceof Exit) throw error;
    reportError(error, process.argv.slice(2));
    throw new Exit(2);
  }
}

async function compareNamed(a: string, b: string, flags: Flags, signal: AbortSignal): Promise<void> {
  const { compareDevices } = await import("../../block/compare.js");
  const { secondFormat, strict = false, ...shared } = flags;
  const left = await openNamed(a, shared);
  try {
    const { format: _first, ...rest } = shared;
    const right = await openNamed(b, { ...rest, ...(secondFormat === undefined ? {} : { format: secondFormat }) });
    const progress = progressBar("compare", flags);
    try {
      const result = await compareDevices(left.device, right.device, {
        strict,
        signal,
        ...(progress ? { onProgress: progress.update } : {}),
      });
      progress?.end();
      if (flags.json) printJson({ same: result.same, "first-difference": result.firstDifference });
      else
        printLines([
          result.same ? "the disks are the same" : `the disks differ, first at byte ${result.firstDifference}`,
        ]);
      if (!result.same) throw new Exit(1);
    } finally {
      progress?.end();
      await right.device.close();
    }
  } finally {
    await left.device.close();
  }
}
