/** Flags of commands that make an image: options of its format, preallocation, a backing image. */
import type { Command } from "commander";
import { DiskError } from "../errors.js";
import type { NewImageRequest } from "../stack/new-image.js";

export interface NewImageFlags {
  readonly option: readonly string[];
  readonly preallocation?: string;
  readonly backing?: string;
  readonly backingFormat?: string;
}

export function addNewImageOptions(command: Command): Command {
  return command
    .option(
      "--preallocation <mode>",
      "off: nothing is stored; metadata: tables only; falloc: space is reserved; full: zeros are written",
    )
    .option(
      "-o, --option <key=value>",
      "option of the format, as qemu-img; several with commas, or -o again",
      (value: string, all: string[]) => [...all, value],
      [],
    )
    .option("-b, --backing <file>", "make an overlay on this image; a relative path starts at the new image's folder")
    .option("-F, --backing-format <format>", "format of the backing image; default by its extension");
}

/** What they ask for. Throws as wrong usage. */
export function imageRequest({
  option,
  preallocation,
  backing,
  backingFormat,
}: NewImageFlags): Pick<NewImageRequest, "options" | "preallocation" | "backing"> {
  if (backingFormat !== undefined && backing === undefined)
    throw new DiskError("UNSUPPORTED", "Cannot use a backing format without a backing image: allowed with -b", {
      details: { usage: true },
    });
  return {
    options: readOptions(option),
    ...(preallocation === undefined ? {} : { preallocation }),
    ...(backing === undefined
      ? {}
      : { backing: { name: backing, ...(backingFormat === undefined ? {} : { format: backingFormat }) } }),
  };
}

/** `a=1,b=2`, repeated; a comma within a value is written twice, as for qemu-img. */
function readOptions(texts: readonly string[]): Map<string, string> {
  const options = new Map<string, string>();
  for (const text of texts.flatMap((one) => one.split(/(?<!,),(?!,)/))) {
    const equals = text.indexOf("=");
    if (equals < 1)
      throw new DiskError("UNSUPPORTED", `Cannot read option ${JSON.stringify(text)}: allowed is KEY=VALUE`, {
        details: { usage: true },
      });
    options.set(text.slice(0, equals), text.slice(equals + 1).replaceAll(",,", ","));
  }
  return options;
}
