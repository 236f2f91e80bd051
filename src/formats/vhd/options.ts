/** The keys of `-o`, as qemu-img names them. */
import { choiceOption, switchOption } from "../options.js";

export const SUBFORMAT = choiceOption(
  "subformat",
  "dynamic grows as it is written, fixed has all of its bytes",
  ["dynamic", "fixed"],
  "dynamic",
);
/** Ours always have the size that was asked for; the key is taken so that scripts for qemu-img go on working. */
export const FORCE_SIZE = switchOption(
  "force_size",
  "the size as it is, not rounded up to a geometry (always so here)",
  true,
);
