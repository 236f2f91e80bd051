/** `-L` and `-l`. */
import { type Command, InvalidArgumentError } from "commander";
import { DiskError } from "../../../errors.js";
import { parseExtents, type Size } from "../../../lvm/changes/extents.js";
import { parseMebibytes, usage } from "./options.js";

export interface SizeFlags {
  readonly size?: Size;
  readonly extents?: Size;
}

export function addSizes(command: Command, signed: string): Command {
  return command
    .option("-L, --size <size>", `size, rounded up to extents${signed}; without a unit mebibytes`, parseSignedSize)
    .option("-l, --extents <n>", `number of extents${signed}, or N%VG, N%FREE, N%PVS`, parseExtentsOption);
}

/** Exactly one of the two. Null when neither is given. */
export function givenSize({ size, extents }: SizeFlags): Size | null {
  if (size && extents) throw usage("Cannot use --size and --extents together");
  return size ?? extents ?? null;
}

/** Bytes with a sign, without a unit mebibytes. */
export function parseSignedSize(text: string): Size {
  const [, sign = "", rest = ""] = /^([+-]?)(.*)$/s.exec(text)!;
  return { kind: "bytes", sign: sign as "" | "+" | "-", bytes: parseMebibytes(rest) };
}

function parseExtentsOption(text: string): Size {
  try {
    return parseExtents(text);
  } catch (error) {
    throw error instanceof DiskError ? new InvalidArgumentError(error.message) : error;
  }
}
