/** `xvd vgimport`: an exported group is taken over. */
import type { Command } from "commander";
import { planImportGroup } from "../../../lvm/changes/change-group.js";
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
    const context = lvmContext("vgimport");
    const options = { ...changeOptions(context, flags), allowExported: true };
    const results = [];
    for (const name of names.map(parseGroupName))
      results.push(await changeGroup(context, name, options, ({ group }) => planImportGroup(group)));
    printChange(flags, joinResults(results));
  });
}
