/** `xvd lvcreate`: a new volume in a group. */
import type { Command } from "commander";
import { DiskError } from "../../../errors.js";
import type { AllocationPolicy } from "../../../lvm/metadata.js";
import { parseTag } from "../../../lvm/names.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  collect,
  lvmContext,
  parseCount,
  parseGroupName,
  parseKibibytes,
  parseVolumeName,
  parseYesNo,
  printChange,
  usage,
} from "./options.js";
import { addPolicy } from "./policy.js";
import { parsePvArguments } from "./pv-arguments.js";
import { addSizes, givenSize, type SizeFlags } from "./sizes.js";

interface Flags extends CommonFlags, SizeFlags {
  readonly name?: string;
  readonly stripes?: number;
  readonly stripesize?: number;
  readonly type?: string;
  readonly alloc?: AllocationPolicy;
  readonly contiguous?: boolean;
  readonly addtag?: string[];
  readonly permission?: "r" | "rw";
  readonly zero?: boolean;
  readonly wipesignatures?: boolean;
  readonly setautoactivation?: boolean;
  readonly setactivationskip?: boolean;
  readonly mirrors?: number;
  readonly snapshot?: boolean;
  readonly thin?: boolean;
  readonly thinpool?: string;
  readonly virtualsize?: string;
}

export default function define(command: Command): void {
  addSizes(
    addPolicy(
      addChanging(
        command
          .argument("<vg>", "the group")
          .argument("[disks...]", "only on these physical volumes, also DISK:0-99 or @tag"),
      ),
    ),
    "",
  )
    .option("-n, --name <name>", "of the volume (default: lvol0, lvol1 …)")
    .option("-i, --stripes <n>", "stripes side by side", parseCount)
    .option("-I, --stripesize <size>", "of each stripe (default: 64k)", parseKibibytes)
    .option("--type <type>", "linear, striped, error or zero")
    .option("-C, --contiguous <y|n>", "in one piece", parseYesNo)
    .option("--addtag <tag>", "add a tag", collect)
    .option("-p, --permission <rw|r>", "writable or read-only", parsePermission)
    .option("-Z, --zero <y|n>", "zero the first 4 KiB (default: y)", parseYesNo)
    .option("-W, --wipesignatures <y|n>", "wipe superblocks of old file systems (default: y)", parseYesNo)
    .option("-a, --activate <y|n|ay>", "accepted: volumes are served when they are opened")
    .option("--setautoactivation <y|n>", "whether a kernel activates it by itself", parseYesNo)
    .option("-k, --setactivationskip <y|n>", "whether a kernel leaves it out", parseYesNo)
    .option("-m, --mirrors <n>", "not in this version", parseCount)
    .option("-s, --snapshot", "not in this version")
    .option("-T, --thin", "not in this version")
    .option("--thinpool <pool>", "not in this version")
    .option("-V, --virtualsize <size>", "not in this version")
    .addHelpText(
      "after",
      "\nExamples:\n  xvd lvcreate -L 10G -n root vg0\n  xvd lvcreate -i 2 -I 64k -l 100%FREE -n data vg0 p0.dsk p1.dsk:100-",
    )
    .action((name: string, disks: string[], flags: Flags) => run(name, disks, flags));
}

async function run(target: string, disks: string[], flags: Flags): Promise<void> {
  refuseTypes(flags);
  const size = givenSize(flags);
  if (!size) throw usage("Please specify either size (-L) or extents (-l)");
  const { group, volume } = namesOf(target, flags);
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const { planCreateVolume } = await import("../../../lvm/changes/create-volume.js");
  const { withWiping } = await import("../../../stack/lvm/volumes.js");
  const { newId } = await import("../../../lvm/id.js");
  const context = lvmContext("lvcreate");
  const result = await changeGroup(context, group, changeOptions(context, flags), (found) => {
    const within = parsePvArguments(found, disks);
    const plan = planCreateVolume(found.group, {
      id: newId(context.random),
      size,
      time: context.now,
      host: context.host,
      ...(volume === undefined ? {} : { name: volume }),
      ...(flags.type === undefined ? {} : { type: flags.type }),
      ...(flags.stripes === undefined ? {} : { stripes: flags.stripes }),
      ...(flags.stripesize === undefined ? {} : { stripeSize: flags.stripesize }),
      ...(flags.contiguous ? { allocation: "contiguous" } : flags.alloc ? { allocation: flags.alloc } : {}),
      ...(within ? { within } : {}),
      tags: (flags.addtag ?? []).map(parseTag),
      readOnly: flags.permission === "r",
      ...(flags.setautoactivation === undefined ? {} : { autoactivation: flags.setautoactivation }),
      skipActivation: flags.setactivationskip ?? false,
    });
    return withWiping(plan, { zero: flags.zero ?? true, wipe: flags.wipesignatures ?? flags.zero ?? true });
  });
  printChange(flags, result);
}

/** `-n vg/lv` and `-n lv` with the group as the argument. */
function namesOf(target: string, { name }: Flags): { group: string; volume?: string } {
  const group = parseGroupName(target);
  if (name === undefined) return { group };
  if (!name.includes("/")) return { group, volume: name };
  const full = parseVolumeName(name);
  if (full.group !== group) throw usage(`Inconsistent volume group names given: "${full.group}" and "${group}"`);
  return full;
}

/** Types that LVM2 has and this version only shows. */
function refuseTypes({ mirrors, snapshot, thin, thinpool, virtualsize, type }: Flags): void {
  const wanted =
    mirrors !== undefined && mirrors > 0
      ? (type ?? "raid1")
      : snapshot
        ? "snapshot"
        : thin || thinpool !== undefined
          ? (type ?? "thin")
          : null;
  if (wanted !== null || (virtualsize !== undefined && type === undefined))
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot create a volume of type ${wanted ?? "thin"}: this version creates linear, striped, error and zero`,
      { details: { segmentType: wanted ?? "thin" } },
    );
}

export function parsePermission(text: string): "r" | "rw" {
  if (text === "r" || text === "rw") return text;
  throw usage("Cannot use this permission: allowed rw and r");
}
