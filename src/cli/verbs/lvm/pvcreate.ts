/** `xvd pvcreate`: disks become physical volumes, and are registered. */
import { type Command, InvalidArgumentError } from "commander";
import { printJson, printLines } from "../../print.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  countForce,
  isDryRun,
  lvmContext,
  parseCount,
  parseMebibytes,
  parseYesNo,
} from "./options.js";

export interface PvFlags extends CommonFlags {
  readonly uuid?: string;
  readonly dataalignment?: number;
  readonly dataalignmentoffset?: number;
  readonly metadatasize?: number;
  readonly pvmetadatacopies?: 0 | 1 | 2;
  readonly bootloaderareasize?: number;
  readonly labelsector?: number;
  readonly setphysicalvolumesize?: number;
}

/** Options of new physical volumes, which vgcreate and vgextend take too. */
export function addPvOptions(command: Command): Command {
  return command
    .option("--dataalignment <size>", "data begins at a multiple of it (default: 1m)", parseKib)
    .option("--dataalignmentoffset <size>", "and this much behind", parseKib)
    .option("--metadatasize <size>", "room for metadata at least", parseMebibytes)
    .option("--pvmetadatacopies <0|1|2>", "metadata areas (default: 1)", parseCopies)
    .option("-Z, --zero <y|n>", "wipe the first sectors (always done)", parseYesNo)
    .option("-M, --metadatatype <type>", "lvm2", parseLvm2);
}

export default function define(command: Command): void {
  const force = countForce(command);
  addPvOptions(addChanging(command.argument("<disks...>", "image files, partitions of them (guest.dsk#p1), NBD disks")))
    .option("-u, --uuid <uuid>", "identity (default: a new one)")
    .option("--norestorefile", "allow --uuid without a backup of its group")
    .option("--bootloaderareasize <size>", "room for a boot loader", parseMebibytes)
    .option("--labelsector <n>", "sector of the label, 0 to 3 (default: 1)", parseCount)
    .option("--setphysicalvolumesize <size>", "size to use instead of the device's", parseMebibytes)
    .action(async (disks: string[], flags: PvFlags) => {
      const { withLockedSession } = await import("../../../stack/lvm/change.js");
      const { ORPHANS } = await import("../../../stack/lvm/locks.js");
      const { initPv, registerPvs } = await import("../../../stack/lvm/pvs.js");
      const context = lvmContext("pvcreate");
      const options = initOptions(flags, force());
      const made = await withLockedSession(
        context,
        [ORPHANS],
        changeOptions(context, flags, disks),
        async (session) => {
          const volumes = [];
          for (const disk of disks) volumes.push(await initPv(context, session, disk, options));
          if (!options.dryRun) registerPvs(context, volumes);
          return volumes;
        },
      );
      if (flags.json)
        printJson({
          "dry-run": options.dryRun,
          pvs: made.map(({ name, label }) => ({ pv_name: name, pv_uuid: label.id })),
        });
      else if (!flags.quiet)
        printLines(
          disks.map((disk) => `  Physical volume "${disk}" ${options.dryRun ? "would be" : "successfully"} created.`),
        );
    });
}

export function initOptions(flags: PvFlags, force: number) {
  const given = {
    id: flags.uuid,
    dataAlignment: flags.dataalignment,
    dataAlignmentOffset: flags.dataalignmentoffset,
    metadataSize: flags.metadatasize,
    metadataCopies: flags.pvmetadatacopies,
    bootAreaSize: flags.bootloaderareasize,
    labelSector: flags.labelsector,
    deviceSize: flags.setphysicalvolumesize,
  };
  const known = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Record<
    string,
    never
  >;
  return { ...known, yes: flags.yes ?? false, force, dryRun: isDryRun(flags) };
}

function parseKib(text: string): number {
  return parseMebibytes(/^[\d.]+$/.test(text) ? `${text}k` : text);
}

function parseCopies(text: string): 0 | 1 | 2 {
  if (text === "0" || text === "1" || text === "2") return Number(text) as 0 | 1 | 2;
  throw new InvalidArgumentError("allowed 0, 1 and 2");
}

function parseLvm2(text: string): string {
  if (/^(lvm)?2$/.test(text)) return text;
  throw new InvalidArgumentError("allowed lvm2");
}
