/** lvextend, lvreduce and lvresize: one change, three ways. */
import type { Command } from "commander";
import { DiskError } from "../../../errors.js";
import type { ResizeVolumeRequest } from "../../../lvm/changes/resize-volume.js";
import { type AllocationPolicy, findVolume } from "../../../lvm/metadata.js";
import { snapshotOf } from "../../../lvm/segments/snapshot/roles.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  collect,
  countForce,
  lvmContext,
  parseCount,
  parseKibibytes,
  parseVolumeName,
  printChange,
  usage,
} from "./options.js";
import { addPolicy } from "./policy.js";
import { parsePvArguments } from "./pv-arguments.js";
import { addSizes, givenSize, type SizeFlags } from "./sizes.js";

interface Flags extends CommonFlags, SizeFlags {
  readonly stripes?: number;
  readonly stripesize?: number;
  readonly alloc?: AllocationPolicy;
  readonly resizefs?: boolean;
  readonly usePolicies?: boolean;
  readonly config?: string[];
}

type Way = ResizeVolumeRequest["way"];

export function defineResize(command: Command, way: Way): void {
  const force = countForce(command);
  const signs = { extend: ", or +SIZE", reduce: ", or -SIZE", resize: ", or +SIZE, -SIZE" };
  const withDisks = command.argument("<vg/lv>", "the volume");
  if (way !== "reduce") withDisks.argument("[disks...]", "only on these physical volumes, also DISK:0-99 or @tag");
  addSizes(addChanging(withDisks), signs[way]).option(
    "-r, --resizefs",
    "not in this version: resize the file system too",
  );
  if (way !== "reduce")
    addPolicy(command)
      .option("-i, --stripes <n>", "stripes of the new part (default: as before)", parseCount)
      .option("-I, --stripesize <size>", "of the new part", parseKibibytes);
  if (way === "extend")
    command
      .option("--use-policies", "a snapshot or pool that is fuller than its threshold grows, others stay as they are")
      .option(
        "--config <text>",
        "'activation/snapshot_autoextend_threshold=70', beside XVD_HOME/lvm/lvm.conf",
        collect,
      );
  command.action((target: string, ...rest: unknown[]) => {
    const [disks, flags] = way === "reduce" ? [[], rest[0]] : [rest[0] as string[], rest[1]];
    return run(way, target, disks, flags as Flags, force());
  });
}

async function run(way: Way, target: string, disks: readonly string[], flags: Flags, force: number): Promise<void> {
  const { group, volume } = parseVolumeName(target);
  if (flags.usePolicies) return (await import("./use-policies.js")).usePolicies({ group, volume }, flags);
  const size =
    givenSize(flags) ??
    (way === "extend" && disks.length > 0
      ? { kind: "percent" as const, sign: "+" as const, percent: 100, of: "PVS" as const }
      : null);
  if (!size) throw usage("Please specify either size (-L) or extents (-l)");
  if (flags.resizefs)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot resize the file system on ${target}: this version resizes the volume only, allowed without --resizefs`,
    );
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const { planResizeVolume } = await import("../../../lvm/changes/resize-volume.js");
  const { hasLegs, planResizeRaid } = await import("../../../lvm/changes/resize-raid.js");
  const { refuseCutFilesystem } = await import("../../../stack/lvm/volumes.js");
  const context = lvmContext(`lv${way}`);
  let legs = false;
  const result = await changeGroup(context, group, changeOptions(context, flags), async (found) => {
    const within = parsePvArguments(found, disks);
    const ofLegs = hasLegs(findVolume(found.group, volume));
    legs ||= ofLegs;
    const plan = (ofLegs ? planResizeRaid : planResizeVolume)(found.group, {
      name: volume,
      size,
      way,
      ...(flags.stripes === undefined ? {} : { stripes: flags.stripes }),
      ...(flags.stripesize === undefined ? {} : { stripeSize: flags.stripesize }),
      ...(flags.alloc ? { allocation: flags.alloc } : {}),
      ...(within ? { within } : {}),
    });
    if (plan.to < plan.from && snapshotOf(found.group, volume))
      await (await import("../../../stack/lvm/snapshots.js")).refuseCutStore(found, volume, plan.to);
    else if (plan.to < plan.from && force === 0)
      await refuseCutFilesystem(found, volume, plan.to * found.group.extentSize);
    return plan;
  });
  printChange(flags, result);
  if (legs && !flags.dryRun)
    await (await import("../../../stack/lvm/raid-use.js")).syncIdleLegs(context, changeOptions(context, flags), {
      group,
      volume,
    });
}
