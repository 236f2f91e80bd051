/** `xvd vgcfgrestore`: the metadata of a group from a file, or as it was before the last change. */
import type { Command } from "commander";
import { DiskError } from "../../../errors.js";
import { printJson, printLines } from "../../print.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  chosenDevices,
  lvmContext,
  parseGroupName,
  printChange,
  usage,
} from "./options.js";

interface Flags extends CommonFlags {
  readonly file?: string;
  readonly last?: boolean;
  readonly force?: boolean;
  readonly list?: boolean;
}

export default function define(command: Command): void {
  addChanging(command.argument("<vg>", "the group"))
    .option("-f, --file <file>", "a backup or archive (default: the group's backup)")
    .option("--force", "also where the pools of thin volumes have changed since then: their mappings stay as they are")
    .option("--last", "as it was before the last change: undoes it, and done twice redoes it")
    .option("-l, --list", "list the archives of the group")
    .addHelpText(
      "after",
      "\nData comes back with the metadata as long as the extents were not used for something else.",
    )
    .action((name: string, flags: Flags) =>
      flags.list ? list(parseGroupName(name), flags) : restore(parseGroupName(name), flags),
    );
}

async function list(name: string, flags: Flags): Promise<void> {
  const { listArchive } = await import("../../../stack/lvm/archive.js");
  const { openSession } = await import("../../../stack/lvm/open-session.js");
  const context = lvmContext("vgcfgrestore");
  const session = await openSession(chosenDevices(context, flags), { paths: context.paths });
  const id = session.scan.groups.find(({ group }) => group.name === name)?.group.id ?? null;
  await session.close();
  const archives = listArchive(context.paths.home, name, id);
  const rows = archives.map(({ path, header, group }) => ({
    file: path,
    vg: group.name,
    description: header.description,
    time: new Date(header.creationTime * 1000).toISOString(),
  }));
  if (flags.json) return printJson({ archives: rows });
  printLines(
    rows
      .flatMap(({ file, vg, description, time }) => [
        "",
        `  File:\t\t${file}`,
        `  VG name:    \t${vg}`,
        `  Description:\t${description}`,
        `  Backup Time:\t${time}`,
      ])
      .slice(1),
  );
}

async function restore(name: string, flags: Flags): Promise<void> {
  if (flags.last && flags.file !== undefined) throw usage("Cannot use --last and --file together");
  const { backupPath, listArchive, readBackup } = await import("../../../stack/lvm/archive.js");
  const { applyChange, withLockedSession } = await import("../../../stack/lvm/change.js");
  const { ORPHANS } = await import("../../../stack/lvm/locks.js");
  const { planRestore } = await import("../../../stack/lvm/restore.js");
  const context = lvmContext("vgcfgrestore");
  const { home } = context.paths;
  const options = changeOptions(context, flags);
  const result = await withLockedSession(context, [name, ORPHANS], options, ({ scan }) => {
    const id = scan.groups.find(({ group }) => group.name === name)?.group.id ?? null;
    // By its name where the group has got another id since then.
    const last = () => listArchive(home, name, id)[0] ?? listArchive(home, name, null)[0];
    const backup = flags.last ? last() : readBackup(flags.file ?? backupPath(home, name));
    if (!backup)
      throw new DiskError(
        "NOT_FOUND",
        `Cannot restore volume group ${name}: there is no archive of it in ${home}/lvm/archive`,
      );
    if (!flags.last && backup.group.name !== name)
      throw usage(`Cannot restore volume group ${name}: the file is of ${backup.group.name}`);
    const { found, change } = planRestore(scan, backup.group, name, flags.force);
    return applyChange(context, found, change, options);
  });
  printChange(flags, result);
}
