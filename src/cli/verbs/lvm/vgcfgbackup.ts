/** `xvd vgcfgbackup`: the metadata of groups into files. */
import type { Command } from "commander";
import { printJson, printLines } from "../../print.js";
import { addCommon, type CommonFlags, chosenDevices, lvmContext, parseGroupName } from "./options.js";

interface Flags extends CommonFlags {
  readonly file?: string;
}

export default function define(command: Command): void {
  addCommon(command.argument("[vgs...]", "groups; default: all"))
    .option("-f, --file <file>", "where to, %s for the group's name (default: below XVD_HOME/lvm/backup)")
    .action(async (names: string[], flags: Flags) => {
      const { backupGroup, backupPath } = await import("../../../stack/lvm/archive.js");
      const { openSession } = await import("../../../stack/lvm/open-session.js");
      const { findGroup } = await import("../../../lvm/scan.js");
      const { checkGroupName } = await import("../../../lvm/names.js");
      const { printBackup } = await import("../../../lvm/print-group.js");
      const { writeTextFile } = await import("../../../os/state-files.js");
      const context = lvmContext("vgcfgbackup");
      const session = await openSession(chosenDevices(context, flags), { paths: context.paths });
      try {
        for (const warning of session.scan.warnings) context.warn(warning);
        const groups =
          names.length > 0 ? names.map((name) => findGroup(session.scan, parseGroupName(name))) : session.scan.groups;
        const written = groups.map(({ group }) => {
          const header = { description: context.command, creationHost: context.host, creationTime: context.now };
          checkGroupName(group.name); // it comes from a disk and becomes a part of a path
          const path = flags.file?.replaceAll("%s", group.name) ?? backupPath(context.paths.home, group.name);
          if (flags.file === undefined) backupGroup(context.paths.home, group, header);
          else writeTextFile(path, printBackup(group, header), "latin1");
          return { vg: group.name, file: path };
        });
        if (flags.json) printJson({ backups: written });
        else if (!flags.quiet) printLines(written.map(({ vg }) => `  Volume group "${vg}" successfully backed up.`));
      } finally {
        await session.close();
      }
    });
}
