/** `xvd pvresize`: a physical volume follows the size of its disk. */
import type { Command } from "commander";
import { printJson, printLines } from "../../print.js";
import { addChanging, type CommonFlags, changeOptions, isDryRun, lvmContext, parseMebibytes } from "./options.js";

interface Flags extends CommonFlags {
  readonly setphysicalvolumesize?: number;
}

export default function define(command: Command): void {
  addChanging(command.argument("<disks...>", "physical volumes"))
    .option("--setphysicalvolumesize <size>", "size to use instead of the disk's", parseMebibytes)
    .action(async (disks: string[], flags: Flags) => {
      const { withLockedSession } = await import("../../../stack/lvm/change.js");
      const { ORPHANS } = await import("../../../stack/lvm/locks.js");
      const { openSession } = await import("../../../stack/lvm/open-session.js");
      const { groupOf, resizePv } = await import("../../../stack/lvm/pvs.js");
      const { canonicalName } = await import("../../../stack/lvm/devices.js");
      const context = lvmContext("pvresize");
      const options = changeOptions(context, flags, disks);
      const lines: string[] = [];
      for (const disk of disks) {
        const look = await openSession(options.devices, { paths: context.paths });
        const group = groupOf(look.scan, canonicalName(disk))?.group.name ?? ORPHANS;
        await look.close();
        lines.push(
          ...(await withLockedSession(context, [group], options, (session) =>
            resizePv(context, session, disk, flags.setphysicalvolumesize ?? null, options),
          )),
        );
      }
      if (flags.json) return printJson({ "dry-run": isDryRun(flags), steps: lines });
      if (isDryRun(flags)) return printLines(lines);
      if (!flags.quiet)
        printLines(
          [...lines, `${disks.length} physical volume(s) resized or updated / 0 physical volume(s) not resized`].map(
            (line) => `  ${line}`,
          ),
        );
    });
}
