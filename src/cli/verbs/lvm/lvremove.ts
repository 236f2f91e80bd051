/** `xvd lvremove`: volumes go away, their extents become free. `vgcfgrestore --last` takes it back. */
import type { Command } from "commander";
import { planRemoveVolume } from "../../../lvm/changes/volume.js";
import { isVisible, type VolumeGroup } from "../../../lvm/metadata.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  countForce,
  groupTargets,
  joinResults,
  lvmContext,
  printChange,
} from "./options.js";

export default function define(command: Command): void {
  countForce(command);
  addChanging(command.argument("<names...>", "VG/LV, or VG for all of its volumes")).action(
    async (names: string[], flags: CommonFlags) => {
      const { changeGroup } = await import("../../../stack/lvm/change.js");
      const context = lvmContext("lvremove");
      const results = [];
      for (const [group, volumes] of groupTargets(names))
        results.push(
          await changeGroup(context, group, { ...changeOptions(context, flags), allowMissing: true }, (found) => {
            let left: VolumeGroup = found.group;
            const steps: string[] = [];
            for (const name of volumes ?? found.group.logicalVolumes.filter(isVisible).map((volume) => volume.name)) {
              const plan = planRemoveVolume(left, name);
              left = plan.group;
              steps.push(...plan.steps);
            }
            return { group: left, steps };
          }),
        );
      printChange(flags, joinResults(results));
    },
  );
}
