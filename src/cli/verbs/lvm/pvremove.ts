/** `xvd pvremove`: a disk is no physical volume any more. */
import type { Command } from "commander";
import { printJson, printLines } from "../../print.js";
import { addChanging, type CommonFlags, changeOptions, countForce, isDryRun, lvmContext } from "./options.js";

export default function define(command: Command): void {
  const force = countForce(command);
  addChanging(command.argument("<disks...>", "physical volumes that are in no group")).action(
    async (disks: string[], flags: CommonFlags) => {
      const { withLockedSession } = await import("../../../stack/lvm/change.js");
      const { ORPHANS } = await import("../../../stack/lvm/locks.js");
      const { removePv } = await import("../../../stack/lvm/pvs.js");
      const context = lvmContext("pvremove");
      const dryRun = isDryRun(flags);
      await withLockedSession(context, [ORPHANS], changeOptions(context, flags, disks), async (session) => {
        for (const disk of disks) await removePv(context, session, disk, { force: force(), dryRun });
      });
      if (flags.json) printJson({ "dry-run": dryRun, removed: disks });
      else if (!flags.quiet)
        printLines(
          disks.map((disk) => `  Labels on physical volume "${disk}" ${dryRun ? "would be" : "successfully"} wiped.`),
        );
    },
  );
}
