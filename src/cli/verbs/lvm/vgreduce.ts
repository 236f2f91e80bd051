/** `xvd vgreduce`: physical volumes leave a group. */
import type { Command } from "commander";
import { DiskError } from "../../../errors.js";
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
  readonly removemissing?: boolean;
  readonly force?: boolean;
}

export default function define(command: Command): void {
  addChanging(command.argument("<vg>", "the group").argument("[disks...]", "physical volumes without volumes on them"))
    .option("-a, --all", "every physical volume that is not used")
    .option("--removemissing", "those whose devices are missing, where no volume lies on them")
    .option("-f, --force", "with --removemissing: remove the volumes on them too; RAID volumes keep their other images")
    .action(async (name: string, disks: string[], flags: Flags) => {
      if (flags.removemissing) return removeMissing(parseGroupName(name), disks, flags);
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

async function removeMissing(name: string, disks: string[], flags: Flags): Promise<void> {
  if (disks.length > 0 || flags.all) throw usage("Please use either --removemissing or physical volumes, not both");
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const { missingPvs, planRemoveMissing } = await import("../../../lvm/changes/missing.js");
  const context = lvmContext("vgreduce");
  const options = { ...changeOptions(context, flags), allowMissing: true };
  let partial: readonly string[] = [];
  const result = await changeGroup(context, name, options, (found) => {
    const { group } = found;
    if (missingPvs(found).length === 0)
      return { group, unchanged: true, steps: [`Volume group "${name}" is already consistent.`] };
    const plan = planRemoveMissing(found, { force: flags.force ?? false });
    partial = plan.partial;
    for (const volume of partial) context.warn(`WARNING: Partial LV ${volume} needs to be repaired or removed.`);
    const unchanged = plan.group.physicalVolumes.length === group.physicalVolumes.length && partial.length > 0;
    return { ...plan, unchanged };
  });
  printChange(flags, result);
  if (partial.length > 0)
    throw new DiskError(
      "DENIED",
      `There are still partial LVs in VG ${name}: ${partial.join(" ")}; to remove them unconditionally use: vgreduce --removemissing --force`,
      { details: { group: name, partial } },
    );
}
