/** `xvd vgmerge`: a group comes into another one. */
import type { Command } from "commander";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  lvmContext,
  parseGroupName,
  printChange,
  usage,
} from "./options.js";

export default function define(command: Command): void {
  addChanging(
    command.argument("<vg>", "the group that stays").argument("<source>", "the group whose volumes come into it"),
  )
    .addHelpText(
      "after",
      "\nTo undo it: 'xvd vgcfgrestore --last VG', which frees the physical volumes, then the same for SOURCE.",
    )
    .action(async (target: string, source: string, flags: CommonFlags) => {
      const { mergeGroups } = await import("../../../stack/lvm/two-groups.js");
      const context = lvmContext("vgmerge");
      const [into, from] = [parseGroupName(target), parseGroupName(source)];
      if (into === from) throw usage("Duplicate volume group name: a group cannot be merged into itself");
      printChange(flags, await mergeGroups(context, into, from, changeOptions(context, flags)));
    });
}
