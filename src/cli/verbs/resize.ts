/** `xvd resize`: an image made larger or smaller. */
import type { Command } from "commander";
import { alignUp } from "../../bytes/align.js";
import { formatSizes, parseSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import { withDisk } from "../disk.js";
import { printJson, printLines } from "../print.js";

interface Flags {
  format?: string;
  shrink?: boolean;
  dryRun?: boolean;
  grow?: string;
  json?: boolean;
}

export default function resize(command: Command): void {
  command
    .argument("<file>", "the image")
    .argument("<size>", "the new size, or +SIZE or -SIZE for a change")
    .option("-f, --format <format>", "format of the image; default by its extension")
    .option("--shrink", "allow a smaller size; nothing that holds data or a partition is ever cut")
    .option("--grow <pN>", "give the new space to this partition, the last one on the disk")
    .option("--dry-run", "tell what would be done")
    .addHelpText(
      "after",
      "\nA GPT's backup moves to the new end. File systems keep their sizes: grow them with resize2fs or xfs_growfs.",
    )
    .allowUnknownOption() // so that -1G is a size
    .allowExcessArguments(false)
    .action((file: string, size: string, flags: Flags) => run(file, size, flags));
}

async function run(path: string, sizeText: string, flags: Flags): Promise<void> {
  if (sizeText.startsWith("--") || /^-\D/.test(sizeText))
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot read size ${JSON.stringify(sizeText)}: it is no size and no known option`,
      { details: { usage: true } },
    );
  const { resizeDisk } = await import("../../stack/resize-disk.js");
  const { shrink = false, dryRun = false } = flags;
  await withDisk(path, { writable: !dryRun, ...(flags.format ? { format: flags.format } : {}) }, async (disk) => {
    const grow = flags.grow === undefined ? {} : { grow: partitionNumber(flags.grow) };
    const result = await resizeDisk(disk, newSize(sizeText, disk.device.size), { shrink, dryRun, ...grow });
    const document = {
      filename: path,
      "old-size": result.oldSize,
      "virtual-size": result.newSize,
      "dry-run": dryRun,
      steps: result.steps,
    };
    if (flags.json) return printJson(document);
    const [before, after] = formatSizes(result.oldSize, result.newSize);
    const exact = after.endsWith("bytes") ? "" : ` (${result.newSize} bytes)`;
    const done = `${path}: ${before} ${dryRun ? "would become" : "became"} ${after}${exact}`;
    const told = dryRun ? result.steps : result.steps.filter((step) => step.startsWith("partition "));
    printLines([done, ...told.map((step) => `  ${step}`)]);
  });
}

function partitionNumber(text: string): number {
  const match = /^p([1-9]\d?)$/.exec(text);
  if (match) return Number(match[1]);
  throw new DiskError("UNSUPPORTED", `Cannot grow ${JSON.stringify(text)}: allowed are partitions, p1 to p15`, {
    details: { usage: true },
  });
}

function newSize(text: string, present: number): number {
  const [, sign = "", amount = ""] = /^([+-]?)(.*)$/s.exec(text)!;
  const bytes = parseSize(amount);
  const size = alignUp(sign === "" ? bytes : present + (sign === "+" ? bytes : -bytes), 512);
  if (size < 0 || !Number.isSafeInteger(size))
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot read size ${JSON.stringify(text)}: the disk has ${present} bytes, the new size would be ${size}, allowed 0..2^53-1`,
      { details: { usage: true } },
    );
  return size;
}
