/** lvextend, lvreduce and lvresize: one change, three ways. */
import type { Command } from "commander";
import { DiskError } from "../../../errors.js";
import type { Size } from "../../../lvm/changes/extents.js";
import type { ResizeVolumePlan, ResizeVolumeRequest } from "../../../lvm/changes/resize-volume.js";
import { type AllocationPolicy, findVolume, type VolumeGroup } from "../../../lvm/metadata.js";
import { snapshotOf } from "../../../lvm/segments/snapshot/roles.js";
import type { LvmContext } from "../../../stack/lvm/change.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  collect,
  countForce,
  isDryRun,
  lvmContext,
  parseCount,
  parseKibibytes,
  parseVolumeName,
  printChange,
  usage,
} from "./options.js";
import { addPolicy } from "./policy.js";
import { parsePvArguments } from "./pv-arguments.js";
import { addSizes, givenSize, parseSignedSize, type SizeFlags } from "./sizes.js";

interface Flags extends CommonFlags, SizeFlags {
  readonly stripes?: number;
  readonly stripesize?: number;
  readonly alloc?: AllocationPolicy;
  readonly resizefs?: boolean;
  readonly usePolicies?: boolean;
  readonly config?: string[];
  readonly poolmetadatasize?: Size;
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
      .option("--poolmetadatasize <size>", "of a thin pool's metadata, also +SIZE", parseSignedSize)
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
  const { poolmetadatasize: metadataSize } = flags;
  if (!size && !metadataSize) throw usage("Please specify either size (-L) or extents (-l)");
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
  let users: string[] = [];
  const result = await changeGroup(context, group, changeOptions(context, flags), async (found) => {
    const within = parsePvArguments(found, disks);
    const joint = snapshotOf(found.group, volume);
    // Whoever writes the origin has to know how large the store is now.
    if (joint) users = (await import("./live.js")).clusterIds(found.group, joint.origin);
    const ofLegs = hasLegs(findVolume(found.group, volume));
    legs ||= ofLegs;
    const request = {
      name: volume,
      way,
      ...(flags.stripes === undefined ? {} : { stripes: flags.stripes }),
      ...(flags.stripesize === undefined ? {} : { stripeSize: flags.stripesize }),
      ...(flags.alloc ? { allocation: flags.alloc } : {}),
      ...(within ? { within } : {}),
    };
    const pool = await planPool(context, found.group, { ...request, size, metadataSize: metadataSize ?? null });
    if (pool) return pool;
    if (!size) throw usage(`Cannot use --poolmetadatasize: ${group}/${volume} is no thin pool`);
    const plan = (ofLegs ? planResizeRaid : planResizeVolume)(found.group, { ...request, size });
    if (plan.to < plan.from && joint)
      await (await import("../../../stack/lvm/snapshots.js")).refuseCutStore(found, volume, plan.to);
    else if (plan.to < plan.from && force === 0)
      await refuseCutFilesystem(found, volume, plan.to * found.group.extentSize);
    return plan;
  });
  if (users.length > 0 && !isDryRun(flags)) {
    const { askDaemon } = await import("./live.js");
    await askDaemon(context, flags, group, { change: { kind: "reload" }, volumes: users });
  }
  printChange(flags, result);
  if (legs && !flags.dryRun)
    await (await import("../../../stack/lvm/raid-use.js")).syncIdleLegs(context, changeOptions(context, flags), {
      group,
      volume,
    });
}

/** Null for what is no thin pool. Its metadata may be named by its own name too. */
async function planPool(
  context: LvmContext,
  group: VolumeGroup,
  request: Omit<ResizeVolumeRequest, "size"> & { readonly size: Size | null; readonly metadataSize: Size | null },
): Promise<ResizeVolumePlan | null> {
  const { planResizePool, poolWithMetadata } = await import("../../../lvm/changes/thin-resize.js");
  const whole = poolWithMetadata(group, request.name);
  if (!whole && findVolume(group, request.name).segments[0]?.type !== "thin-pool") return null;
  const { poolRequest } = await import("./lvcreate-thin.js");
  const { time, host, newId } = await poolRequest(context, {});
  const parts = whole ? { name: whole.name, size: null, metadataSize: request.size } : request;
  return planResizePool(group, {
    ...request,
    ...parts,
    time,
    host,
    newId,
    metadataSize: parts.metadataSize,
  });
}
