/** `xvd convert`: any disk into a new file, or into a disk that exists. Holes stay holes. */
import type { Command } from "commander";
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import { addDiskOptions, type DiskFlags, diskContext, withDisk } from "../disk.js";
import { interruptible } from "../interrupt.js";
import { printJson, printLines } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags extends DiskFlags {
  outputFormat?: string;
  compress?: boolean;
  option?: string;
  backing?: string;
  force?: boolean;
  verify?: boolean;
  sync: boolean;
  dryRun?: boolean;
  json?: boolean;
}

export default function convert(command: Command): void {
  addDiskOptions(
    command
      .argument("<source>", "the disk to copy")
      .argument("<target>", "a new file, or with --force a disk that exists"),
  )
    .option("-O, --output-format <format>", "format of the target; default by its extension")
    .option("-c, --compress", "compress (formats that can)")
    .option("-o, --option <key=value>", "option of the target's format")
    .option("-b, --backing <disk>", "make an overlay on another image (formats that have them)")
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
  refuseForRaw(target, flags);
  const { outputFormat, force = false, verify = false, dryRun = false } = flags;
  const { copyDisk } = await import("../../stack/copy-disk.js");
  const format = outputFormat === undefined ? {} : { format: outputFormat };
  const options = {
    mode: "full",
    force,
    verify,
    dryRun,
    durable: flags.sync,
    detectZeros: true,
    ...format,
    ...diskContext(),
  } as const;
  const result = await withDisk(source, flags, (disk) =>
    interruptible((signal) =>
      withProgress("convert", flags, (report) => copyDisk(disk, target, { ...options, signal, ...report })),
    ),
  );
  const { size, copied } = result;
  if (flags.json) return printJson({ source, target, size, copied, verified: verify, "dry-run": dryRun });
  const how = dryRun ? "" : `, ${formatSize(copied)} of data${verify ? ", verified" : ""}`;
  printLines([`${dryRun ? "would copy" : "copied"} ${source} to ${target}: ${formatSize(size)}${how}`]);
}

function refuseForRaw(target: string, { compress, option, backing }: Flags): void {
  const missing = compress
    ? "compression"
    : option !== undefined
      ? "options"
      : backing !== undefined
        ? "backing files"
        : undefined;
  if (missing)
    throw new DiskError("UNSUPPORTED", `Cannot convert to ${JSON.stringify(target)}: raw images have no ${missing}`, {
      details: { usage: true },
    });
}
