/** `xvd vgimportclone`: copies of a group's disks get identities of their own, and are a second group then. */
import type { Command } from "commander";
import { addChanging, type CommonFlags, changeOptions, lvmContext, parseGroupName, printChange } from "./options.js";

interface Flags extends CommonFlags {
  readonly basevgname?: string;
  readonly import?: boolean;
}

export default function define(command: Command): void {
  addChanging(command.argument("<disks...>", "copies of all physical volumes of one group"))
    .option("-n, --basevgname <name>", "of the copy (default: the group's name with a number behind)")
    .option("-i, --import", "also take an exported group, and make it usable")
    .option("--importdevices", "accepted: the copies are registered")
    .addHelpText(
      "after",
      "\nThe group and its physical volumes get new ids, logical volumes keep theirs, as with LVM2; 'xvd clone --new-ids' renews all.",
    )
    .action(async (disks: string[], flags: Flags) => {
      const { withLockedSession } = await import("../../../stack/lvm/change.js");
      const { importClone } = await import("../../../stack/lvm/import-clone.js");
      const { openSession } = await import("../../../stack/lvm/open-session.js");
      const { ORPHANS } = await import("../../../stack/lvm/locks.js");
      const { registerPvs } = await import("../../../stack/lvm/pvs.js");
      const { scanDevices } = await import("../../../lvm/scan.js");
      const context = lvmContext("vgimportclone");
      const options = changeOptions(context, flags);
      const others = await openSession(options.devices, { paths: context.paths });
      const taken = new Set(others.scan.groups.map(({ group }) => group.name));
      await others.close();
      const only = { ...options, devices: disks };
      const result = await withLockedSession(context, [ORPHANS], only, async ({ scan, candidates }) => {
        const name = flags.basevgname === undefined ? null : parseGroupName(flags.basevgname);
        const done = await importClone(context, scan, { name, taken, import: flags.import ?? false }, only);
        if (!options.dryRun) {
          const made = (await scanDevices(candidates)).groups.find(({ group }) => group.id === done.after.id);
          registerPvs(context, made ? [...made.members.values()].filter((pv) => pv !== null) : []);
        }
        return done;
      });
      printChange(flags, result);
    });
}
