/** `xvd vgsplit`: physical volumes with all that lies on them become another group. */
import type { Command } from "commander";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  lvmContext,
  parseGroupName,
  parseVolumeName,
  printChange,
  usage,
} from "./options.js";
import { memberOf, notIn } from "./pv-arguments.js";

interface Flags extends CommonFlags {
  readonly name?: string;
}

export default function define(command: Command): void {
  addChanging(
    command
      .argument("<vg>", "the group to split")
      .argument("<new>", "the new group, or another one that is there")
      .argument("[disks...]", "physical volumes that go; no volume may lie on both sides"),
  )
    .option("-n, --name <lv>", "instead of disks: a volume, with the physical volumes that it lies on")
    .action(async (source: string, target: string, disks: string[], flags: Flags) => {
      if ((disks.length === 0) !== (flags.name !== undefined))
        throw usage("Please enter physical volumes, or a logical volume with -n");
      const { splitGroup } = await import("../../../stack/lvm/two-groups.js");
      const context = lvmContext("vgsplit");
      const [from, into] = [parseGroupName(source), parseGroupName(target)];
      const volume = flags.name?.includes("/") ? parseVolumeName(flags.name).volume : flags.name;
      const result = await splitGroup(context, from, into, changeOptions(context, flags), (found) => {
        if (volume !== undefined) return { volume };
        const pvs = disks.map((disk) => {
          const pv = memberOf(found, disk);
          if (!pv) throw notIn(found, disk);
          return pv.name;
        });
        return { pvs };
      });
      printChange(flags, result);
    });
}
