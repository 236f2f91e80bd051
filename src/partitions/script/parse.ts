/** A layout in any of its three forms, told apart by how it begins. */
import { parseJsonLayout } from "./json-layout.js";
import type { TableLayout } from "./layout.js";
import { parseScript } from "./sfdisk-script.js";
import { isShortLayout, parseShortLayout } from "./short-layout.js";

/** Throws `UNSUPPORTED` (wrong usage) for text that is none of the three. */
export function parseLayout(text: string): TableLayout {
  if (text.trimStart().startsWith("{")) return parseJsonLayout(text);
  const words = text.trim();
  if (words !== "" && !words.includes("\n") && isShortLayout(words)) return parseShortLayout(words);
  return parseScript(text);
}
