/** `xvd convert`: any disk into a new file, or into a disk that exists. Holes stay holes. */
import type { Command } from "commander";
import { formatSize } from "../../bytes/size.js";
import { addDiskOptions, type DiskFlags, diskContext, withDisk } from "../disk.js";
import { interruptible } from "../interrupt.js";
import { addNewImageOptions, imageRequest, type NewImageFlags } from "../new-image.js";
import { printJson, printLines } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags extends DiskFlags, NewImageFlags {
  outputFormat?: string;
  compress?: boolean;
  force?: boolean;
  verify?: boolean;
  sync: boolean;
  dryRun?: boolean;
  json?: boolean;
}

export default function convert(command: Command): void {
  const described = command
    .argument("<source>", "the disk to copy")
    .argument("<target>", "a new file, or with --force a disk that exists");
  addNewImageOptions(addDiskOptions(described))
    .option("-O, --output-format <format>", "format of the target; default by its extension")
    .option("-c, --compress", "compress (formats that can)")
    .option(
      "--force",
      "replace an existing file, or write into an existing disk; what lies behind the source's size stays",
    )
    .option("--verify", "read both again and compare")
    .option("--no-sync", "return before the copy is on the disk, as cp does: a power cut soon after may lose it")
    .option("--dry-run", "tell what would be done")
    .action((source: string, target: string, flags: Flags) => run(source, target, flags));
}

async function run(source: string, target: string, flags: Flags): Promise<void> {
  const { outputFormat, compress = false, force = false, verify = false, dryRun = false } = flags;
  const { copyDisk } = await import("../../stack/copy-disk.js");
  const options = {
    mode: "full",
    compress,
    force,
    verify,
    dryRun,
    durable: flags.sync,
    detectZeros: true,
    ...imageRequest(flags),
    ...(outputFormat === undefined ? {} : { format: outputFormat }),
    ...(flags.allowBacking ? { allowBacking: true } : {}),
    ...diskContext(),
  } as const;
  const { result, before } = await withDisk(source, flags, async (disk) => ({
    before: disk.file?.file.allocatedSize() ?? null,
    result: await interruptible((signal) =>
      withProgress("convert", flags, (report) => copyDisk(disk, target, { ...options, signal, ...report })),
    ),
  }));
  const { size, format, copied, stored } = result;
  const sizes = { "source-actual-size": before, "actual-size": dryRun ? null : stored };
  if (flags.json)
    return printJson({ source, target, format, size, copied, ...sizes, verified: verify, "dry-run": dryRun });
  const space = before !== null && stored !== null ? `, ${formatSize(before)} stored became ${formatSize(stored)}` : "";
  const how = dryRun ? "" : `, ${formatSize(copied)} of data${space}${verify ? ", verified" : ""}`;
  printLines([`${dryRun ? "would copy" : "copied"} ${source} to ${target}: ${format}, ${formatSize(size)}${how}`]);
}
