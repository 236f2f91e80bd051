/** `xvd resize`: an image made larger or smaller, also while a guest uses it. */
import type { Command } from "commander";
import { alignUp } from "../../bytes/align.js";
import { formatSizes, parseSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import { parseDiskName } from "../../stack/disk-name.js";
import type { ResizedDisk, ResizeOptions } from "../../stack/resize-disk.js";
import { openNamed, withDisk } from "../disk.js";
import { dom0Client } from "../dom0.js";
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
    .argument("<disk>", "the image, or dom:NAME/xvdX for a disk that a guest uses")
    .argument("<size>", "the new size, or +SIZE or -SIZE for a change")
    .option("-f, --format <format>", "format of the image; default by its extension")
    .option("--shrink", "allow a smaller size; nothing that holds data or a partition is ever cut")
    .option("--grow <pN>", "give the new space to this partition, the last one on the disk")
    .option("--dry-run", "tell what would be done")
    .addHelpText(
      "after",
      "\nA GPT's backup moves to the new end. File systems keep their sizes: grow them with resize2fs or xfs_growfs.\nThe guest of a dom: disk sees the new size at once.",
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
  const { shrink = false, dryRun = false } = flags;
  const grow = flags.grow === undefined ? {} : { grow: partitionNumber(flags.grow) };
  const options = { shrink, dryRun, ...grow };
  const result = await (path.startsWith("dom:") ? resizeInUse : resizeImage)(path, sizeText, flags, options);
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
}

type Resizing = (path: string, size: string, flags: Flags, options: ResizeOptions) => Promise<ResizedDisk>;

const resizeImage: Resizing = async (path, size, flags, options) => {
  const { resizeDisk } = await import("../../stack/resize-disk.js");
  const opening = { writable: !options.dryRun, ...(flags.format ? { format: flags.format } : {}) };
  return withDisk(path, opening, (disk) => resizeDisk(disk, newSize(size, disk.device.size), options));
};

const resizeInUse: Resizing = async (text, size, _flags, options) => {
  const { resizeAttached } = await import("../../dom0/resize-attached.js");
  const { base } = parseDiskName(text, () => false);
  if (base.kind !== "domain") throw new TypeError(`${text} is no device of a domain`);
  const open = () => openNamed(text, { writable: !options.dryRun });
  const disk = { domain: base.domain, vdev: base.vdev, open };
  return resizeAttached(dom0Client({ autostart: false }), disk, (present) => newSize(size, present), options);
};

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
