/** `xvd trim`: gives back the space of zeros that are stored. */
import type { Command } from "commander";
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import { addDiskOptions, type DiskFlags, withDisk } from "../disk.js";
import { interruptible } from "../interrupt.js";
import { printJson, printLines } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags extends DiskFlags {
  zeroes?: boolean;
  filesystem?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

/** File systems allocate in pages: shorter holes give nothing back. */
const PAGE = 4096;

export default function trim(command: Command): void {
  addDiskOptions(command.argument("<disk>", "an image, or a part of one"))
    .option("--zeroes", "give back ranges that hold nothing but zeros (the default)")
    .option("--filesystem", "give back blocks that the file system says are free")
    .option("--dry-run", "tell what would be done")
    .addHelpText("after", "\nWhat the disk shows stays the same, bytes of free blocks excepted.")
    .action((disk: string, flags: Flags) => run(disk, flags));
}

async function run(text: string, flags: Flags): Promise<void> {
  const { dryRun = false } = flags;
  if (flags.filesystem)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot trim ${JSON.stringify(text)} by its file system: this version reads no free blocks, allowed --zeroes (after 'zerofree', or fstrim in the guest)`,
    );
  const { trimZeros } = await import("../../stack/trim-disk.js");
  const result = await withDisk(text, { ...flags, writable: !dryRun }, async ({ device, image, file }) => {
    const before = file?.file.allocatedSize() ?? null;
    const unit = image?.image.clusterSize ?? PAGE;
    const { zeros } = await interruptible(
      (signal) => withProgress("trim", flags, (report) => trimZeros(device, { unit, dryRun, signal, ...report })),
      "the disk shows the same bytes",
    );
    return { zeros, before, after: file?.file.allocatedSize() ?? null };
  });
  const { zeros, before, after } = result;
  if (flags.json)
    return printJson({ disk: text, zeros, "actual-size-before": before, "actual-size": after, "dry-run": dryRun });
  const space =
    before === null || after === null || dryRun ? "" : `, ${formatSize(before)} stored became ${formatSize(after)}`;
  printLines([
    `${text}: ${formatSize(zeros)} of stored zeros ${dryRun ? "would be given back" : "given back"}${space}`,
  ]);
}
