/** `xvd vgreduce`: physical volumes leave a group. */
import type { Command } from "commander";
import { planReduceGroup } from "../../../lvm/changes/group.js";
import { usedRuns } from "../../../lvm/check-group.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  lvmContext,
  parseGroupName,
  printChange,
  usage,
} from "./options.js";
import { memberOf, notIn } from "./pv-arguments.js";

interface Flags extends CommonFlags {
  readonly all?: boolean;
}

export default function define(command: Command): void {
  addChanging(command.argument("<vg>", "the group").argument("[disks...]", "physical volumes without volumes on them"))
    .option("-a, --all", "every physical volume that is not used")
    .action(async (name: string, disks: string[], flags: Flags) => {
      if ((disks.length === 0) !== (flags.all ?? false)) throw usage("Please enter physical volume paths or option -a");
      const { changeGroup } = await import("../../../stack/lvm/change.js");
      const { ORPHANS } = await import("../../../stack/lvm/locks.js");
      const context = lvmContext("vgreduce");
      const result = await changeGroup(
        context,
        parseGroupName(name),
        changeOptions(context, flags),
        (found) => {
          const { group, members } = found;
          const runs = usedRuns(group);
          const chosen = flags.all
            ? group.physicalVolumes
                .filter((pv) => runs.get(pv.name)?.length === 0)
                .slice(0, group.physicalVolumes.length - 1)
            : disks.map((disk) => {
                const pv = memberOf(found, disk);
                if (!pv) throw notIn(found, disk);
                return pv;
              });
          return planReduceGroup(
            group,
            chosen.map((pv) => pv.name),
            (pv) => members.get(pv.name)?.name ?? pv.id,
          );
        },
        [ORPHANS],
      );
      printChange(flags, result);
    });
}
