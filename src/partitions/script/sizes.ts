/** Sizes in sfdisk scripts: a plain number counts sectors, a number with a unit counts bytes. */
import { parseSize } from "../../bytes/size.js";
import { usageError } from "../plan.js";

export function parseScriptSize(text: string, sectorSize: number, row: string): number {
  if (/^\d+$/.test(text)) {
    const value = Number(text) * sectorSize;
    if (Number.isSafeInteger(value)) return value;
    throw usageError(`Cannot read size ${text} in ${JSON.stringify(row)}: allowed up to 2^53-1 bytes`);
  }
  return parseSize(text.replace(/^\+(?=\d)/, ""));
}
