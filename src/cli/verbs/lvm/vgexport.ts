/** `xvd vgexport`: a group is put away for another host; nothing but vgimport changes it then. */
import type { Command } from "commander";
import { planExportGroup } from "../../../lvm/changes/change-group.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  joinResults,
  lvmContext,
  parseGroupName,
  printChange,
} from "./options.js";

export default function define(command: Command): void {
  addChanging(command.argument("<vgs...>", "groups")).action(async (names: string[], flags: CommonFlags) => {
    const { changeGroup } = await import("../../../stack/lvm/change.js");
    const context = lvmContext("vgexport");
    const results = [];
    for (const name of names.map(parseGroupName))
      results.push(
        await changeGroup(context, name, changeOptions(context, flags), ({ group }) => ({
          ...planExportGroup(group),
          inUse: group.logicalVolumes,
        })),
      );
    printChange(flags, joinResults(results));
  });
}
