/** `xvd vgck`: what is wrong with groups and their metadata areas. */
import type { Command } from "commander";
import { Exit } from "../../exit.js";
import { printJson, printLines } from "../../print.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  chosenDevices,
  joinResults,
  lvmContext,
  parseGroupName,
  printChange,
} from "./options.js";

interface Flags extends CommonFlags {
  readonly updatemetadata?: boolean;
}

export default function define(command: Command): void {
  addChanging(command.argument("[vgs...]", "groups; default: all"))
    .option("--updatemetadata", "write the metadata anew: mends areas that are older or damaged")
    .action((names: string[], flags: Flags) => (flags.updatemetadata ? update(names, flags) : check(names, flags)));
}

async function check(names: readonly string[], flags: Flags): Promise<void> {
  const { openSession } = await import("../../../stack/lvm/open-session.js");
  const { unlabelled } = await import("../../../stack/lvm/devices.js");
  const { checkFound, damage } = await import("../../../lvm/check-found.js");
  const { checkPools } = await import("../../../lvm/check-pools.js");
  const { findGroup } = await import("../../../lvm/scan.js");
  const context = lvmContext("vgck");
  const session = await openSession(chosenDevices(context, flags), { paths: context.paths });
  try {
    const { scan, candidates } = session;
    const groups = names.length > 0 ? names.map((name) => findGroup(scan, parseGroupName(name))) : scan.groups;
    const inPools = [];
    for (const found of groups) inPools.push(...(await checkPools(found)));
    const findings = [
      ...scan.warnings.map((text) => damage(text.replace(/^WARNING: /, ""))),
      ...unlabelled(context.paths.home, candidates, scan).map(damage),
      ...[...groups.flatMap(checkFound), ...inPools].map((finding) => ({ ...finding, message: `${finding.message}.` })),
    ];
    const isDamaged = findings.some(({ level }) => level === "damage");
    if (flags.json) printJson({ problems: findings.map(({ message }) => message), findings });
    else
      for (const { level, message } of findings)
        context.warn(/^See /.test(message) ? message : `${level === "note" ? "note" : "WARNING"}: ${message}`);
    if (isDamaged) throw new Exit(1);
    if (!flags.json && !flags.quiet) printLines([]);
  } finally {
    await session.close();
  }
}

async function update(names: readonly string[], flags: Flags): Promise<void> {
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const context = lvmContext("vgck");
  const results = [];
  for (const name of names.map(parseGroupName))
    results.push(
      await changeGroup(context, name, changeOptions(context, flags), ({ group, outdated }) => ({
        group,
        wipeOutdated: true,
        steps: [
          ...outdated.map((pv) => `WARNING: wiping mda on outdated PV ${pv.name}`),
          `Volume group "${name}" metadata updated`,
        ],
      })),
    );
  printChange(flags, joinResults(results));
}
