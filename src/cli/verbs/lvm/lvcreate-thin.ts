/** What `xvd lvcreate` makes of thin volumes: a pool, a volume in it, both at once, a snapshot. */
import { findVolume, textField, type VolumeGroup } from "../../../lvm/metadata.js";
import { parseTag } from "../../../lvm/names.js";
import type { ChangeResult, GroupChange, LvmContext } from "../../../stack/lvm/change.js";
import type { LvcreateFlags } from "./lvcreate-request.js";
import { changeOptions, lvmContext, parseGroupName, parseVolumeName, printChange, usage } from "./options.js";
import { parsePvArguments } from "./pv-arguments.js";
import { givenSize } from "./sizes.js";
import type { PoolFlags } from "./thin-options.js";

interface Names {
  readonly group: string;
  readonly pool: string | null;
  readonly origin: string | null;
  readonly volume: string | null;
}

export async function createThin(
  target: string | undefined,
  disks: readonly string[],
  flags: LvcreateFlags,
): Promise<void> {
  const names = namesOf(target, flags);
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const context = lvmContext("lvcreate");
  const result: ChangeResult = await changeGroup(context, names.group, changeOptions(context, flags), async (found) => {
    if (names.origin !== null) return planSnapshot(context, found.group, names, names.origin, flags);
    const within = parsePvArguments(found, disks);
    return planPoolAndVolume(context, found.group, names, flags, within ? { within } : {});
  });
  printChange(flags, result);
}

async function planPoolAndVolume(
  context: LvmContext,
  group: VolumeGroup,
  { pool: poolName, volume }: Names,
  flags: LvcreateFlags,
  place: { readonly within?: NonNullable<ReturnType<typeof parsePvArguments>> },
): Promise<GroupChange> {
  const { planCreatePool } = await import("../../../lvm/changes/thin-pool.js");
  const { planCreateThin } = await import("../../../lvm/changes/thin-volume.js");
  const { newId } = await import("../../../lvm/id.js");
  const size = givenSize(flags);
  if (!size && flags.virtualsize === undefined)
    throw usage("Please specify either size (-L) or extents (-l) of a pool, or --virtualsize of a thin volume");
  if (!size && poolName === null) throw usage("Please specify the thin pool: VG/POOL or --thinpool");
  const made = size
    ? planCreatePool(group, {
        ...(await poolRequest(context, flags)),
        ...place,
        size,
        // Without -V the name is that of the pool.
        ...nameOf(poolName ?? (flags.virtualsize === undefined ? volume : null)),
        ...(flags.stripes === undefined ? {} : { stripes: flags.stripes }),
        ...(flags.stripesize === undefined ? {} : { stripeSize: flags.stripesize }),
        ...(flags.contiguous ? { allocation: "contiguous" } : flags.alloc ? { allocation: flags.alloc } : {}),
        ...(flags.virtualsize === undefined ? { tags: (flags.addtag ?? []).map(parseTag) } : {}),
      })
    : null;
  for (const warning of made?.warnings ?? []) context.warn(warning);
  const prepare = made && (await formatting(made.group, made.pool));
  if (flags.virtualsize === undefined) return { ...made!, ...(prepare ? { prepare } : {}) };
  const thin = planCreateThin(made?.group ?? group, {
    ...volumeRequest(context, flags, newId(context.random)),
    ...nameOf(volume),
    pool: made?.pool.name ?? poolName!,
    size: flags.virtualsize,
  });
  for (const warning of thin.warnings) context.warn(warning);
  const steps = [...(made?.steps.slice(0, -1) ?? []), ...thin.steps];
  return { ...thin, steps, ...(prepare ? { prepare } : {}) };
}

async function planSnapshot(
  context: LvmContext,
  group: VolumeGroup,
  { pool, volume }: Names,
  origin: string,
  flags: LvcreateFlags,
): Promise<GroupChange> {
  const { planExternalSnapshot, planThinSnapshot } = await import("../../../lvm/changes/thin-volume.js");
  const { newId } = await import("../../../lvm/id.js");
  const [segment] = findVolume(group, origin).segments;
  const own = segment?.type === "thin" ? textField(segment, "thin_pool") : null;
  const request = { ...volumeRequest(context, flags, newId(context.random)), ...nameOf(volume), origin };
  if (own === null && pool === null)
    throw usage(`Please specify the size of the snapshot of ${group.name}/${origin} (-L), or a thin pool (--thinpool)`);
  const plan =
    own !== null && (pool === null || pool === own)
      ? planThinSnapshot(group, request)
      : planExternalSnapshot(group, { ...request, pool: pool! });
  for (const warning of plan.warnings) context.warn(warning);
  return plan;
}

const nameOf = (name: string | null) => (name === null ? {} : { name });

function volumeRequest(context: LvmContext, flags: LvcreateFlags, id: string) {
  return {
    id,
    time: context.now,
    host: context.host,
    tags: (flags.addtag ?? []).map(parseTag),
    readOnly: flags.permission === "r",
    ...(flags.setautoactivation === undefined ? {} : { autoactivation: flags.setautoactivation }),
    ...(flags.setactivationskip === undefined ? {} : { skipActivation: flags.setactivationskip }),
  };
}

/** How a pool shall work, from the options that lvcreate and lvconvert have. */
export async function poolRequest(context: LvmContext, flags: PoolFlags & { readonly zero?: boolean }) {
  const { newId } = await import("../../../lvm/id.js");
  return {
    time: context.now,
    host: context.host,
    newId: () => newId(context.random),
    zero: flags.zero ?? true,
    spare: flags.poolmetadataspare ?? true,
    errorWhenFull: flags.errorwhenfull ?? false,
    ...(flags.chunksize === undefined ? {} : { chunkSize: flags.chunksize }),
    ...(flags.poolmetadatasize === undefined ? {} : { metadataSize: flags.poolmetadatasize }),
    ...(flags.discards === undefined ? {} : { discards: flags.discards }),
  };
}

/** What is done on the devices before a group with a new pool is written. */
export async function formatting(
  group: VolumeGroup,
  pool: VolumeGroup["logicalVolumes"][number],
): Promise<NonNullable<GroupChange["prepare"]>> {
  const { formatPool } = await import("../../../stack/lvm/thin-pools.js");
  const { devicesOf } = await import("../../../lvm/scan.js");
  return (members) => formatPool(group, pool, devicesOf(members));
}

/** `VG/POOL`, `VG/ORIGIN` with -s, `VG` with names in the options; groups that are named twice must be the same. */
function namesOf(target: string | undefined, { name, thinpool, snapshot, thin, type }: LvcreateFlags): Names {
  const given = (text: string | undefined) =>
    text === undefined ? null : text.replace(/^(?:\/dev\/|lvm:)/, "").includes("/") ? parseVolumeName(text) : text;
  const [main, pool, own] = [given(target), given(thinpool), given(name)];
  const groups = [main, pool, own].flatMap((one) => (one !== null && typeof one !== "string" ? [one.group] : []));
  if (typeof main === "string") groups.push(parseGroupName(main));
  const [group] = groups;
  if (group === undefined) throw usage("Please provide a volume group name");
  const other = groups.find((one) => one !== group);
  if (other !== undefined) throw usage(`Inconsistent volume group names given: "${group}" and "${other}"`);
  const volumeOf = (one: typeof main) => (one === null ? null : typeof one === "string" ? one : one.volume);
  const operand = main !== null && typeof main !== "string" ? main.volume : null;
  if (snapshot) {
    if (operand === null) throw usage("Please specify the volume to take a snapshot of: VG/LV");
    return { group, pool: volumeOf(pool), origin: operand, volume: volumeOf(own) };
  }
  // LVM2 takes `-T VG/ORIGIN` without sizes for a snapshot too; here that is -s.
  if (operand !== null && pool !== null && operand !== volumeOf(pool) && (thin || type !== undefined))
    throw usage(`Cannot use both ${operand} and ${volumeOf(pool)} as the pool`);
  return { group, pool: volumeOf(pool) ?? operand, origin: null, volume: volumeOf(own) };
}
