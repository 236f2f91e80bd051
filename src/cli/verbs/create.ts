/** `xvd create`: an empty disk image. */
import type { Command } from "commander";
import { alignUp } from "../../bytes/align.js";
import { formatSize, parseSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import type { CreateOptions, ImageFormat } from "../../formats/format.js";
import { interruptible } from "../interrupt.js";
import { printJson, printLines, remark } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags {
  format?: string;
  preallocation?: string;
  force?: boolean;
  dryRun?: boolean;
  option: string[];
  backing?: string;
  json?: boolean;
}

export default function create(command: Command): void {
  command
    .argument("<file>", "the new image; .dsk, .img and .raw are raw")
    .argument("<size>", "bytes, or a number with K M G T P (1024), KB MB GB (1000), s (sectors)")
    .option("-f, --format <format>", "format of the image; default by its extension")
    .option("--preallocation <mode>", "off: nothing is stored; falloc: space is reserved; full: zeros are written")
    .option(
      "-o, --option <key=value>",
      "option of the format, as qemu-img (preallocation=MODE)",
      (value, all: string[]) => [...all, value],
      [],
    )
    .option("-b, --backing <disk>", "make an overlay on another image (formats that have them)")
    .option("--force", "replace an existing file")
    .option("--dry-run", "tell what would be done")
    .addHelpText(
      "after",
      "\nAn image takes space only for what is written into it. Sizes are rounded up to sectors of 512 bytes.",
    )
    .action((file: string, size: string, flags: Flags) => run(file, size, flags));
}

async function run(path: string, sizeText: string, flags: Flags): Promise<void> {
  const { chooseFormat } = await import("../../formats/registry.js");
  const { format } = chooseFormat(path, flags.format);
  if (flags.backing !== undefined)
    throw new DiskError("UNSUPPORTED", `Cannot create "${path}": ${format.name} images have no backing file`, {
      details: { usage: true },
    });
  const asked = parseSize(sizeText);
  const size = alignUp(asked, 512);
  const options = await createOptions(path, format, flags);
  if (flags.force) (await import("../../stack/cut-move.js")).refuseCutMove(path, `replace ${JSON.stringify(path)}`);
  const replaces = (await import("../../os/paths.js")).pathExists(path);
  const stored = await interruptible((signal) => makeImage(path, format, size, options, flags, signal));
  if (size !== asked) remark(`xvd create: the size is rounded up from ${asked} to ${size} bytes, a multiple of 512`);
  const { dryRun = false } = flags;
  const made = { filename: path, format: format.name, "virtual-size": size };
  if (flags.json) return printJson(dryRun ? { ...made, "dry-run": true } : { ...made, "actual-size": stored });
  const done = dryRun ? (replaces ? "would replace" : "would create") : "created";
  printLines([`${done} ${path}: ${format.name}, ${formatSize(size)} (${size} bytes)`]);
}

/** Bytes stored. A dry run goes as far as a sparse file without a name, which tells what would be refused. */
async function makeImage(
  path: string,
  format: ImageFormat,
  size: number,
  { values, preallocation }: Pick<CreateOptions, "values" | "preallocation">,
  flags: Flags,
  signal: AbortSignal,
): Promise<number> {
  const { stageImage } = await import("../../stack/staged-image.js");
  const { randomBytes } = await import("node:crypto");
  const { force = false, dryRun = false } = flags;
  const staged = await stageImage(path, { force });
  try {
    const { createExtent } = staged;
    const world = { random: randomBytes, now: Date.now, createExtent, backing: null };
    const how = { preallocation: dryRun ? "off" : preallocation, values, signal, ...world } as const;
    await withProgress("create", flags, (report) => format.create(staged.file, size, { ...how, ...report }));
    const stored = staged.allocatedSize();
    await (dryRun ? staged.abort() : staged.commit());
    return stored;
  } catch (error) {
    await staged.abort();
    throw error;
  }
}

/** `-o KEY=VALUE,…`, repeated, and `--preallocation`, which is one of them. */
async function createOptions(
  path: string,
  format: ImageFormat,
  flags: Flags,
): Promise<Pick<CreateOptions, "values" | "preallocation">> {
  const { choiceOption, parseOptions } = await import("../../formats/options.js");
  const given = new Map(
    flags.option
      .flatMap((option) => option.split(","))
      .map((option) => [option.split("=")[0]!, option.slice(option.indexOf("=") + 1)]),
  );
  if (flags.preallocation !== undefined) given.set("preallocation", flags.preallocation);
  const preallocation = choiceOption("preallocation", "what is stored at once", format.preallocations, "off");
  const values = parseOptions(`${format.name} "${path}"`, [...format.options, preallocation], given);
  return { values, preallocation: values.get(preallocation) };
}
