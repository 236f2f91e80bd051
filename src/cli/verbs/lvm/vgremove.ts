/** `xvd vgremove`: a group goes away; its physical volumes stay as free ones. */
import type { Command } from "commander";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  countForce,
  joinResults,
  lvmContext,
  parseGroupName,
  printChange,
} from "./options.js";

export default function define(command: Command): void {
  const force = countForce(command);
  addChanging(command.argument("<vgs...>", "groups")).action(async (names: string[], flags: CommonFlags) => {
    const { DiskError } = await import("../../../errors.js");
    const { changeGroup } = await import("../../../stack/lvm/change.js");
    const { isVisible } = await import("../../../lvm/metadata.js");
    const { ORPHANS } = await import("../../../stack/lvm/locks.js");
    const context = lvmContext("vgremove");
    const results = [];
    for (const name of names.map(parseGroupName))
      results.push(
        await changeGroup(
          context,
          name,
          changeOptions(context, flags),
          ({ group }) => {
            const volumes = group.logicalVolumes.filter(isVisible);
            if (volumes.length > 0 && !flags.yes && force() === 0)
              throw new DiskError(
                "DENIED",
                `Volume group "${name}" not removed: it contains ${volumes.length} logical volumes, allowed with --yes`,
              );
            const steps = volumes.map((volume) => `Logical volume "${volume.name}" successfully removed.`);
            return { group: null, steps: [...steps, `Volume group "${name}" successfully removed`] };
          },
          [ORPHANS],
        ),
      );
    printChange(flags, joinResults(results));
  });
}
