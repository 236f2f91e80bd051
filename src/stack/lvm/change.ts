/**
 * A change of a volume group, from the lock to the backup:
 *
 *   lock the group -> look at the devices -> plan (pure) -> lock volumes that lose extents -> archive the old text -> write -> backup
 *
 * The archive is durable before the first byte is written: `vgcfgrestore --last` takes the change back.
 */
import { DiskError } from "../../errors.js";
import { diffGroups } from "../../lvm/changes/diff.js";
import { exclusive, type NeededLock, neededLocks } from "../../lvm/changes/endangered.js";
import { markMissing, missingPvs } from "../../lvm/changes/missing.js";
import { requireChangeable } from "../../lvm/changes/plan.js";
import { hasMessages, withoutMessages } from "../../lvm/changes/thin-volume.js";
import { checkGroup } from "../../lvm/check-group.js";
import { checkTypes } from "../../lvm/check-types.js";
import { planCommit, runCommit } from "../../lvm/commit.js";
import type { Random } from "../../lvm/id.js";
import type { LogicalVolume, TextHeader, VolumeGroup } from "../../lvm/metadata.js";
import { devicesOf, type FoundGroup, type FoundPv, findGroup, scanDevices } from "../../lvm/scan.js";
import { archiveGroup, backupGroup, removeBackup } from "./archive.js";
import { lockGroups, lockNeeded } from "./locks.js";
import { openSession } from "./open-session.js";
import type { Session, SessionOptions } from "./session.js";

/** This user's world and this moment. */
export interface LvmContext extends Pick<SessionOptions, "domainName"> {
  readonly paths: NonNullable<SessionOptions["paths"]>;
  readonly random: Random;
  /** Seconds since 1970. */
  readonly now: number;
  readonly host: string;
  /** What is kept as the reason of a change: the command line. */
  readonly command: string;
  /** Told to people while the command runs. */
  warn(text: string): void;
}

export interface ChangeOptions {
  /** Devices to look at; default: the registered ones. */
  readonly devices: readonly string[];
  readonly dryRun?: boolean;
  /** Changes that heal a group, or do not touch what lies on its missing volumes; these are marked so that they do not come back unseen. */
  readonly allowMissing?: boolean;
  /** Changes that take an exported group back. */
  readonly allowExported?: boolean;
  /** False: no archive, no backup. Default true. */
  readonly autobackup?: boolean;
  /** Ids of volumes that the caller keeps from harm itself: it has their locks, or leaves what their users rely on. */
  readonly safe?: ReadonlySet<string>;
}

/** What a change makes of a group. */
export interface GroupChange {
  /** Null: the group goes away. Its seqno is set when it is written. */
  readonly group: VolumeGroup | null;
  readonly steps: readonly string[];
  /** It is found to be right as it is: nothing is written. */
  readonly unchanged?: boolean;
  /** Physical volumes that come in. */
  readonly added?: readonly FoundPv[];
  /** Physical volumes that get another id, which `group` already has: the old one and the new one. */
  readonly renamed?: ReadonlyMap<string, string>;
  /** Volumes that nobody may have open meanwhile; default: those that lose or move extents. */
  readonly inUse?: readonly LogicalVolume[];
  /** Volumes that leave go into another group, whose change holds their locks: they are not emptied. */
  readonly moved?: boolean;
  /** Also empties volumes that went out of the group while they were away. */
  readonly wipeOutdated?: boolean;
  /** What shall be done with a volume's metadata areas, where it is not what they are. */
  reviseAreas?(pv: FoundPv): FoundPv;
  /** Runs on the open devices before the group is written, when it is. */
  prepare?(devices: ReadonlyMap<string, FoundPv | null>): Promise<void>;
}

/** What was done, or would be, as lines for people. */
export interface ChangeResult {
  readonly steps: readonly string[];
  /** Changed lines of the metadata; empty when nothing was changed. */
  readonly diff: readonly string[];
}

/** Runs `work` with the devices open for writing (unless it is a dry run) and groups locked. */
export async function withLockedSession<T>(
  context: LvmContext,
  groups: readonly string[],
  { devices, dryRun = false }: ChangeOptions,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const lock = dryRun ? null : await lockGroups(context.paths.home, groups);
  try {
    const session = await openSession(devices, { ...sessionOptions(context), writable: !dryRun });
    try {
      for (const warning of session.scan.warnings) context.warn(warning);
      return await work(session);
    } finally {
      await session.close();
    }
  } finally {
    await lock?.release();
  }
}

export function sessionOptions({ paths, domainName }: LvmContext): SessionOptions {
  return { paths, ...(domainName ? { domainName } : {}) };
}

/** Changes one group that exists. */
export function changeGroup(
  context: LvmContext,
  name: string,
  options: ChangeOptions,
  plan: (found: FoundGroup, session: Session) => GroupChange | Promise<GroupChange>,
  alsoLock: readonly string[] = [],
): Promise<ChangeResult> {
  return withLockedSession(context, [name, ...alsoLock], options, async (session) => {
    const found = findGroup(session.scan, name);
    requireWhole(found, options.allowMissing);
    requireChangeable(found.group, options.allowExported);
    const settled = options.dryRun ? found : await withPoolsTold(context, found, session);
    return applyChange(context, settled, await plan(settled, session), options);
  });
}

/** A group on devices that are missing, or twice there, is not changed. */
export function requireWhole(found: FoundGroup, allowMissing = false): void {
  const { group, duplicates } = found;
  if (duplicates.length > 0)
    throw new DiskError("DENIED", `Cannot update volume group ${group.name} with duplicate PV devices`, {
      details: { group: group.name },
    });
  const missing = missingPvs(found);
  if (missing.length > 0 && !allowMissing)
    throw new DiskError(
      "DENIED",
      `Cannot change VG ${group.name} while PVs are missing: ${missing.map(({ id }) => id).join(" ")}; 'xvd vgreduce --removemissing' and 'xvd vgextend --restoremissing' help`,
      { details: { group: group.name } },
    );
}

/** Writes what a plan says; `found` is null for a new group. */
export async function applyChange(
  context: LvmContext,
  found: FoundGroup | null,
  change: GroupChange,
  { dryRun = false, autobackup = true, safe }: ChangeOptions,
): Promise<ChangeResult> {
  if (change.unchanged) return { steps: change.steps, diff: [] };
  const before = found?.group ?? null;
  const members = membersAfter(found, change);
  const after =
    change.group &&
    withHints(
      markMissing({ ...change.group, seqno: Math.max(before?.seqno ?? 0, change.group.seqno) + 1 }, members),
      members,
    );
  refuseDamage(after);
  const result: ChangeResult = {
    steps: change.steps,
    // Only when somebody asks: it takes as long as writing a group of thousands of volumes.
    get diff() {
      return diffGroups(before, after && withoutMessages(after));
    },
  };
  const present = after ? after.physicalVolumes.flatMap(({ name }) => members.get(name) ?? []) : [];
  const kept = new Set(present.map(({ label }) => label.id));
  const known = found ? [...found.members.values(), ...(change.wipeOutdated ? found.outdated : [])] : [];
  const removed = change.moved ? [] : known.filter((pv) => pv !== null).filter(({ label }) => !kept.has(label.id));
  const steps = planCommit({
    group: after,
    header: header(context, context.command),
    members: present,
    removed,
    renamed: labelsToChange(after, members),
  });
  if (dryRun) return result;
  const write = async () => {
    if (before && autobackup)
      archiveGroup(
        context.paths.home,
        before,
        header(context, `Created *before* executing '${context.command}'`),
        context.random,
      );
    await change.prepare?.(members);
    await runCommit(steps);
    const told = after && (await tellGroupPools(context, after, members));
    if (autobackup) keepBackup(context, before, told ?? after);
  };
  if (!before || change.moved) await write();
  else {
    const needed = change.inUse ? exclusive(change.inUse) : neededLocks(before, after);
    await withVolumesLocked(
      context,
      before,
      needed.filter(({ volume }) => !safe?.has(volume.id)),
      write,
    );
  }
  return result;
}

/**
 * The last step of a change of thin volumes: their pools are told, then the group forgets what it had to tell. Null when it had nothing.
 * Whatever a cut leaves is done by the next opening of the pool and the next change of the group.
 */
async function tellGroupPools(
  context: LvmContext,
  group: VolumeGroup,
  members: ReadonlyMap<string, FoundPv | null>,
): Promise<VolumeGroup | null> {
  if (!group.logicalVolumes.some(hasMessages)) return null;
  const { tellPools } = await import("./thin-pools.js");
  const told = await tellPools(group, devicesOf(members));
  const candidates = [...members.values()].flatMap((pv) => (pv ? [{ name: pv.name, device: pv.device }] : []));
  const found = findGroup(await scanDevices(candidates), group.name);
  const present = [...found.members.values()].filter((pv) => pv !== null);
  const last = { ...told!, seqno: group.seqno + 1 };
  await runCommit(planCommit({ group: last, header: header(context, context.command), members: present, removed: [] }));
  return last;
}

/** What a cut has left to tell is told before anything is planned. */
async function withPoolsTold(context: LvmContext, found: FoundGroup, session: Session): Promise<FoundGroup> {
  const pools = found.group.logicalVolumes.filter(hasMessages);
  if (pools.length === 0) return found;
  await withVolumesLocked(context, found.group, exclusive(pools), () =>
    tellGroupPools(context, found.group, found.members),
  );
  return findGroup(await scanDevices(session.candidates), found.group.name);
}

function header({ host, now }: LvmContext, description: string): TextHeader {
  return { description, creationHost: host, creationTime: now };
}

/** By the local name of each volume of the new group. */
function membersAfter(
  found: FoundGroup | null,
  { group, added = [], renamed = new Map(), reviseAreas = (pv) => pv }: GroupChange,
): Map<string, FoundPv | null> {
  const present = (found?.group.physicalVolumes ?? []).map((pv) => ({ id: pv.id, pv: found!.members.get(pv.name) }));
  const all = [...present, ...added.map((pv) => ({ id: pv.label.id, pv }))];
  const byId = new Map(all.flatMap(({ id, pv }) => (pv ? [[renamed.get(id) ?? id, reviseAreas(pv)] as const] : [])));
  return new Map((group?.physicalVolumes ?? []).map((pv) => [pv.name, byId.get(pv.id) ?? null]));
}

/** Volumes whose label says another id than the group: new ones, and what a cut has left. */
function labelsToChange(
  group: VolumeGroup | null,
  members: ReadonlyMap<string, FoundPv | null>,
): ReadonlyMap<FoundPv, string> {
  const changed = new Map<FoundPv, string>();
  for (const { name, id } of group?.physicalVolumes ?? []) {
    const pv = members.get(name);
    if (pv && pv.label.id !== id) changed.set(pv, id);
  }
  return changed;
}

/** Where each volume is now, for whoever reads the text. */
function withHints(group: VolumeGroup, members: ReadonlyMap<string, FoundPv | null>): VolumeGroup {
  const physicalVolumes = group.physicalVolumes.map((pv) => ({
    ...pv,
    device: members.get(pv.name)?.name ?? pv.device,
  }));
  return { ...group, physicalVolumes };
}

/** The last gate: no plan may write a group that LVM2 would refuse. */
function refuseDamage(after: VolumeGroup | null): void {
  const [problem] = after ? [...checkGroup(after), ...checkTypes(after)] : [];
  if (problem) throw new DiskError("CORRUPT", `Cannot write volume group ${after!.name}: ${problem}`);
}

/** Keeps users away from volumes of a group. Throws `DENIED` when one is in use. */
export async function withVolumesLocked<T>(
  { paths }: LvmContext,
  group: VolumeGroup,
  needed: readonly NeededLock[],
  work: () => Promise<T>,
): Promise<T> {
  const lock = await lockNeeded(paths.home, group, needed);
  try {
    return await work();
  } finally {
    await lock.release();
  }
}

/** The change is done: what fails here is told, not thrown. */
function keepBackup(context: LvmContext, before: VolumeGroup | null, after: VolumeGroup | null): void {
  const { home } = context.paths;
  try {
    if (after) backupGroup(home, after, header(context, `Created *after* executing '${context.command}'`));
    if (before && before.name !== after?.name) removeBackup(home, before.name);
  } catch (error) {
    context.warn(`WARNING: This metadata update is NOT backed up: ${(error as Error).message}.`);
  }
}
