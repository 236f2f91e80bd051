/** `xvd vgextend`: physical volumes come into a group. */
import type { Command } from "commander";
import { planExtendGroup } from "../../../lvm/changes/group.js";
import { isMarkedMissing } from "../../../lvm/metadata.js";
import { addChanging, changeOptions, countForce, lvmContext, parseGroupName, printChange } from "./options.js";
import { addPvOptions, initOptions, type PvFlags } from "./pvcreate.js";

interface Flags extends PvFlags {
  readonly restoremissing?: boolean;
}

export default function define(command: Command): void {
  const force = countForce(command);
  addPvOptions(
    addChanging(
      command.argument("<vg>", "the group").argument("<disks...>", "physical volumes, or disks that become some"),
    ),
  )
    .option("--restoremissing", "use volumes again that were missing during a change, with what they hold")
    .action(async (name: string, disks: string[], flags: Flags) => {
      if (flags.restoremissing) return restoreMissing(parseGroupName(name), disks, flags);
      const { changeGroup } = await import("../../../stack/lvm/change.js");
      const { ORPHANS } = await import("../../../stack/lvm/locks.js");
      const { registerPvs } = await import("../../../stack/lvm/pvs.js");
      const { bringIn } = await import("./members.js");
      const context = lvmContext("vgextend");
      const options = changeOptions(context, flags, disks);
      const group = parseGroupName(name);
      const result = await changeGroup(
        context,
        group,
        options,
        async (found, session) => {
          const added = await bringIn(context, session, group, disks, initOptions(flags, force()), (members) =>
            planExtendGroup(found.group, members),
          );
          const plan = planExtendGroup(found.group, added.members);
          if (!options.dryRun) registerPvs(context, added.pvs);
          return { ...plan, added: added.pvs, steps: [...added.steps, ...plan.steps] };
        },
        [ORPHANS],
      );
      printChange(flags, result);
    });
}

async function restoreMissing(name: string, disks: string[], flags: Flags): Promise<void> {
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const { planRestoreMissing } = await import("../../../lvm/changes/missing.js");
  const { memberOf, notIn } = await import("./pv-arguments.js");
  const context = lvmContext("vgextend");
  const options = { ...changeOptions(context, flags, disks), allowMissing: true };
  const result = await changeGroup(context, name, options, (found) => {
    const names = disks.map((disk) => {
      const pv = memberOf(found, disk);
      if (!pv) throw notIn(found, disk);
      if (!isMarkedMissing(pv)) context.warn(`WARNING: PV ${disk} was not missing in VG ${name}`);
      return pv.name;
    });
    return planRestoreMissing(found.group, names);
  });
  printChange(flags, result);
}
