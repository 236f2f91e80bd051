/**
 * Every image format, and how the one of a file is chosen:
 *
 *   -f NAME            that format, whatever the file is called
 *   .dsk .img .raw     raw, always; the contents are not looked at
 *   .qcow2 .vhd ...    that format; its magic must be there
 *   anything else      raw; but a file whose contents begin like another format is refused until -f says what it is
 *   a block device     raw, always
 *
 * A guest writes into its disk what it likes. So contents never choose a format: at most they make us ask.
 */
import { extname } from "node:path";
import { DiskError } from "../errors.js";
import type { ImageFormat } from "./format.js";
import { qcow2 } from "./qcow2/index.js";
import { raw } from "./raw/index.js";
import { vdi } from "./vdi/index.js";
import { vhd } from "./vhd/index.js";

export const FORMATS: readonly ImageFormat[] = [qcow2, vhd, vdi, raw];

/** Formats that are recognised in order to refuse them. One that gets a driver moves up into FORMATS. */
const WITHOUT_DRIVER: readonly {
  name: string;
  extensions: readonly string[];
  magic: readonly [offset: number, text: string][];
}[] = [
  { name: "vhdx", extensions: ["vhdx"], magic: [[0, "vhdxfile"]] },
  {
    name: "vmdk",
    extensions: ["vmdk"],
    magic: [
      [0, "KDMV"],
      [0, "COWD"],
      [0, "# Disk DescriptorFile"],
    ],
  },
  { name: "qed", extensions: ["qed"], magic: [[0, "QED\0"]] },
];

/** Bytes of a file's begin that `lookLike` needs. */
export const HEAD_SIZE = 512;

export interface FormatChoice {
  readonly format: ImageFormat;
  /** The name says nothing: refuse contents that begin like another format. */
  readonly unsure: boolean;
}

/** Throws `UNSUPPORTED` for a format that is not known, or has no driver yet. */
export function chooseFormat(path: string, named?: string): FormatChoice {
  if (named !== undefined) return { format: formatNamed(named), unsure: false };
  const extension = extname(path).slice(1).toLowerCase();
  const format = FORMATS.find(({ extensions }) => extensions.includes(extension));
  if (format) return { format, unsure: false };
  const missing = WITHOUT_DRIVER.find(({ extensions }) => extensions.includes(extension));
  if (missing)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot use "${path}": its name says ${missing.name}, which this version cannot read or write, allowed ${names()} (-f raw takes the bytes as they are)`,
      {
        details: { path, format: missing.name },
      },
    );
  return { format: raw, unsure: true };
}

/** Throws `UNSUPPORTED`, as wrong usage, with the names that there are. */
export function formatNamed(name: string): ImageFormat {
  const format = FORMATS.find((one) => one.name === name || one.aliases.includes(name));
  if (format) return format;
  const why = WITHOUT_DRIVER.some((one) => one.name === name)
    ? "this version cannot read or write it"
    : "it is not known";
  throw new DiskError("UNSUPPORTED", `Cannot use format ${JSON.stringify(name)}: ${why}, allowed ${names()}`, {
    details: { usage: true, format: name },
  });
}

/** Refuses a file of an unsure name whose first `HEAD_SIZE` bytes begin like a format that is not raw. */
export function refuseLookalike(path: string, head: Uint8Array): void {
  const text = Buffer.from(head).toString("latin1");
  const lookalike =
    FORMATS.find((format) => format.hasMagic(head))?.name ??
    WITHOUT_DRIVER.find(({ magic }) => magic.some(([offset, expected]) => text.startsWith(expected, offset)))?.name;
  if (lookalike)
    throw new DiskError(
      "DENIED",
      `Cannot open "${path}": its name does not say its format and its contents begin like ${lookalike}, allowed with -f raw or -f ${lookalike}`,
      {
        details: { path, format: lookalike },
      },
    );
}

function names(): string {
  return FORMATS.map(({ name }) => name).join(" ");
}
