/** `xvd vgrename`: a group gets another name. */
import type { Command } from "commander";
import { planRenameGroup } from "../../../lvm/changes/group.js";
import { addChanging, type CommonFlags, changeOptions, lvmContext, parseGroupName, printChange } from "./options.js";

export default function define(command: Command): void {
  addChanging(command.argument("<old>", "name of the group").argument("<new>", "its new name")).action(
    async (from: string, to: string, flags: CommonFlags) => {
      const { DiskError } = await import("../../../errors.js");
      const { changeGroup } = await import("../../../stack/lvm/change.js");
      const context = lvmContext("vgrename");
      const name = parseGroupName(to);
      const result = await changeGroup(
        context,
        parseGroupName(from),
        changeOptions(context, flags),
        ({ group }, { scan }) => {
          if (scan.groups.some((other) => other.group.name === name && other.group !== group))
            throw new DiskError("DENIED", `New volume group "${name}" already exists`, { details: { exists: true } });
          return planRenameGroup(group, name);
        },
        [name],
      );
      printChange(flags, result);
    },
  );
}
