/** The short layout `efi:512M,swap:2G,lvm:*`: one partition a word, `TYPE:SIZE[:NAME]`, in the order of the disk. */
import { parseSize } from "../../bytes/size.js";
import { usageError } from "../plan.js";
import type { LayoutLine, TableLayout } from "./layout.js";

const WORD = /^([A-Za-z0-9._-]+):(\*|[0-9][^:]*)(?::(.*))?$/;

/** Whether text has the form of a short layout; file names that exist are asked for first by the caller. */
export function isShortLayout(text: string): boolean {
  return text.split(",").every((word) => WORD.test(word.trim()));
}

export function parseShortLayout(text: string): TableLayout {
  return { lines: text.split(",").map((word) => parseWord(word.trim())) };
}

function parseWord(word: string): LayoutLine {
  const [, type, size, name] = WORD.exec(word) ?? [];
  if (type === undefined || size === undefined)
    throw usageError(
      `Cannot read layout ${JSON.stringify(word)}: the form is TYPE:SIZE[:NAME], SIZE may be * for the rest`,
    );
  return { type, size: size === "*" ? "all" : parseSize(size), ...(name === undefined ? {} : { name }) };
}
