/** `xvd create`: an empty disk image. */
import type { Command } from "commander";
import { formatSize, parseSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import { interruptible } from "../interrupt.js";
import { addNewImageOptions, imageRequest, type NewImageFlags } from "../new-image.js";
import { printJson, printLines, remark } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags extends NewImageFlags {
  format?: string;
  force?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

export default function create(command: Command): void {
  addNewImageOptions(
    command
      .argument("<file>", "the new image; .dsk, .img and .raw are raw")
      .argument(
        "[size]",
        "bytes, or a number with K M G T P (1024), KB MB GB (1000), s (sectors); default with -b: the backing image's",
      )
      .option("-f, --format <format>", "format of the image; default by its extension"),
  )
    .option("--force", "replace an existing file")
    .option("--dry-run", "tell what would be done")
    .addHelpText(
      "after",
      "\nAn image takes space only for what is written into it. Sizes are rounded up to sectors of 512 bytes.",
    )
    .action((file: string, size: string | undefined, flags: Flags) => run(file, size, flags));
}

async function run(path: string, sizeText: string | undefined, flags: Flags): Promise<void> {
  const { makeImage, diskSize } = await import("../../stack/new-image.js");
  const { dryRun = false } = flags;
  const asked = sizeText === undefined ? undefined : parseSize(sizeText);
  const replaces = (await import("../../os/paths.js")).pathExists(path);
  const { result, stored } = await interruptible((signal) =>
    makeImage(
      path,
      {
        ...imageRequest(flags),
        ...(flags.format ? { format: flags.format } : {}),
        force: flags.force ?? false,
        dryRun,
        signal,
      },
      async ({ format, file, options, backing }) => {
        const size = diskSize(sizeOf(path, asked ?? backing?.device.size));
        await withProgress("create", flags, (report) => format.create(file, size, { ...options, ...report }));
        return { format: format.name, size };
      },
    ),
  );
  const { format, size } = result;
  if (asked !== undefined && size !== asked)
    remark(`xvd create: the size is rounded up from ${asked} to ${size} bytes, a multiple of 512`);
  const made = { filename: path, format, "virtual-size": size };
  if (flags.json) return printJson(dryRun ? { ...made, "dry-run": true } : { ...made, "actual-size": stored });
  const done = dryRun ? (replaces ? "would replace" : "would create") : "created";
  printLines([`${done} ${path}: ${format}, ${formatSize(size)} (${size} bytes)`]);
}

function sizeOf(path: string, size: number | undefined): number {
  if (size !== undefined) return size;
  throw new DiskError("UNSUPPORTED", `Cannot create "${path}": no size is given, and no backing image that has one`, {
    details: { usage: true },
  });
}
