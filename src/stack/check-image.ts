/** An image's own metadata checked and mended; for raw disks what lies on them. */
import { type FileDevice, openFileDevice } from "../block/file.js";
import { DiskError } from "../errors.js";
import {
  type CheckOptions,
  type CheckReport,
  isCheckable,
  MAX_PROBLEMS,
  NOTHING_FOUND,
} from "../formats/extensions.js";
import { chooseFormat } from "../formats/registry.js";
import { mayBeDisk } from "../os/paths.js";
import { refuseCutMove } from "./cut-move.js";
import { parseDiskName } from "./disk-name.js";
import { sealedContext } from "./open-gate.js";
import { refuseUnsure } from "./open-image.js";

export interface CheckImageOptions extends CheckOptions {
  readonly format?: string;
  readonly forceShare?: boolean;
}

export interface CheckedImage {
  readonly path: string;
  readonly format: string;
  readonly report: CheckReport;
}

export async function checkImage(text: string, options: CheckImageOptions): Promise<CheckedImage> {
  const { base, part } = parseDiskName(text, mayBeDisk);
  if (base.kind !== "file" || part)
    throw new DiskError("UNSUPPORTED", `Cannot check ${JSON.stringify(text)}: allowed are whole image files`);
  const { path } = base;
  const choice = chooseFormat(path, options.format);
  const { format } = choice;
  const writable = options.repair !== "none" && !options.dryRun;
  if (writable) refuseCutMove(path, `repair ${JSON.stringify(path)}`);
  const file = await openFileDevice(path, { writable, forceShare: (options.forceShare ?? false) && !writable });
  try {
    await refuseUnsure(file, choice);
    if (isCheckable(format))
      return { path, format: format.name, report: await format.check(file, sealedContext(), options) };
    if (options.repair !== "none")
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot repair ${JSON.stringify(path)}: ${format.name} images have no tables of their own, allowed for what lies on them are 'xvd part repair' and 'xvd pvck --repair'`,
      );
    return { path, format: format.name, report: await contentsReport(file, path) };
  } finally {
    await file.close();
  }
}

/** What is wrong with what lies on a disk that has no tables of its own. Notes are told and not counted. */
async function contentsReport(file: FileDevice, path: string): Promise<CheckReport> {
  const { checkContents } = await import("./check-contents.js");
  const findings = await checkContents(file, path);
  const sentences = findings.map(
    ({ level, where, message }) => `${level === "note" ? "note: " : ""}${where}: ${message}`,
  );
  const corruptions = findings.filter(({ level }) => level === "damage").length;
  return { ...NOTHING_FOUND, corruptions, problems: sentences.slice(0, MAX_PROBLEMS) };
}
