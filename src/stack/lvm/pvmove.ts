/**
 * pvmove: extents copied to another place while the group's text says at each moment which place counts (lvm/changes/pvmove.ts).
 *
 *   begin written -> [mirrors copied -> flush -> marked as moved]... -> end written
 *
 * A cut leaves a pvmove that goes on where it was: what is not marked is copied again. Nobody may use what moves meanwhile; the daemon
 * moves the volumes of its guests itself, while they run (dom0/volume-mover.ts).
 */
import { copyDevice } from "../../block/copy.js";
import { DiskError } from "../../errors.js";
import { volumesAbove } from "../../lvm/changes/dependents.js";
import { exclusive } from "../../lvm/changes/endangered.js";
import type { PvmoveRequest } from "../../lvm/changes/pvmove.js";
import { isMoved, planBeginPvmove, planEndPvmove, planMoved } from "../../lvm/changes/pvmove.js";
import { areaExtents, findVolume, type LogicalVolume, type Segment, type VolumeGroup } from "../../lvm/metadata.js";
import { type FoundGroup, findGroup } from "../../lvm/scan.js";
import { clusterOf, snapshotOf, snapshotsOn } from "../../lvm/segments/snapshot/roles.js";
import { type ChangeOptions, type ChangeResult, changeGroup, type LvmContext } from "./change.js";
import { type HeldLock, lockNeeded } from "./locks.js";
import { openSession } from "./open-session.js";

export interface MoveOptions {
  readonly signal?: AbortSignal;
  /** Bytes. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** So long after a mirror was copied it is marked at the latest: what a cut makes be copied again. */
const MARK_MS = 2000;

/** Begins a move and runs it to its end. `plan` is asked twice: what is to be locked is known from the first answer. */
export async function movePv(
  context: LvmContext,
  group: string,
  plan: (found: FoundGroup) => PvmoveRequest,
  move: MoveOptions,
  options: ChangeOptions,
): Promise<ChangeResult> {
  const first = await look(context, group, options, (found) => {
    const { group: after, name } = planBeginPvmove(found.group, plan(found));
    return { before: found.group, after, name };
  });
  if (options.dryRun) return changeGroup(context, group, options, (found) => planBeginPvmove(found.group, plan(found)));
  const volumes = affected(first.after, first.name).map((name) => findVolume(first.before, name));
  return withUsersAway(context, first.before, volumes, async (safe) => {
    let name = "";
    await changeGroup(context, group, { ...options, safe }, (found) => {
      const begun = planBeginPvmove(found.group, plan(found));
      const missed = affected(begun.group, begun.name).filter((each) => !safe.has(findVolume(found.group, each).id));
      if (missed.length > 0)
        throw new DiskError("DENIED", `Cannot move ${missed.join(" ")}: the volume group was changed meanwhile`);
      name = begun.name;
      return begun;
    });
    return finishMove(context, group, name, move, {
      ...options,
      safe: plus(safe, await idOf(context, group, name, options)),
    });
  });
}

/** Goes on with a pvmove that was interrupted, ours or LVM2's. */
export async function resumeMove(
  context: LvmContext,
  group: string,
  name: string,
  move: MoveOptions,
  options: ChangeOptions,
): Promise<ChangeResult> {
  const found = await look(context, group, options, (each) => each.group);
  const volumes = [name, ...affected(found, name)].map((each) => findVolume(found, each));
  return withUsersAway(context, found, volumes, (safe) => finishMove(context, group, name, move, { ...options, safe }));
}

/** What is marked as moved stays there, everything else stays where it was. */
export async function abortMove(
  context: LvmContext,
  group: string,
  name: string,
  options: ChangeOptions,
): Promise<ChangeResult> {
  return changeGroup(context, group, options, (found) => planEndPvmove(found.group, name));
}

async function finishMove(
  context: LvmContext,
  name: string,
  temporary: string,
  { signal, onProgress }: MoveOptions,
  options: ChangeOptions,
): Promise<ChangeResult> {
  const quietly = { ...options, autobackup: false };
  const { group, close, copy } = await openMover(context, name, options);
  try {
    const { segments: mirrors } = findVolume(group, temporary);
    const bytes = ({ count }: Segment) => count * group.extentSize;
    const total = mirrors.reduce((sum, mirror) => sum + bytes(mirror), 0);
    let done = mirrors.filter(isMoved).reduce((sum, mirror) => sum + bytes(mirror), 0);
    let copied = new Set<number>();
    let marked = Date.now();
    const mark = async () => {
      const starts = copied;
      copied = new Set();
      marked = Date.now();
      if (starts.size > 0)
        await changeGroup(context, name, quietly, (found) => planMoved(found.group, temporary, starts));
    };
    try {
      for (const mirror of mirrors) {
        if (isMoved(mirror)) continue;
        await copy(mirror, signal, (part) => onProgress?.(done + part, total));
        done += bytes(mirror);
        onProgress?.(done, total);
        copied.add(mirror.start);
        if (Date.now() - marked >= MARK_MS) await mark();
      }
    } finally {
      await mark();
    }
  } finally {
    await close();
  }
  return changeGroup(context, name, options, (found) => planEndPvmove(found.group, temporary));
}

/** The physical volumes, open for copying mirrors. */
async function openMover(context: LvmContext, name: string, { devices }: ChangeOptions) {
  const session = await openSession(devices, { paths: context.paths, writable: true });
  try {
    const { group, members } = findGroup(session.scan, name);
    const place = ({ areas }: Segment, leg: number) => {
      const area = areas[leg]!;
      const pv = area.kind === "pv" ? group.physicalVolumes.find((each) => each.name === area.pv) : undefined;
      const device = pv && members.get(pv.name)?.device;
      if (area.kind !== "pv" || !pv || !device)
        throw new DiskError("DENIED", `Cannot move extents of ${name}: a physical volume is missing`);
      return { device, offset: pv.peStart + area.pe * group.extentSize };
    };
    /** Durable at its new place when it resolves. */
    const copy = async (mirror: Segment, signal?: AbortSignal, onProgress?: (done: number) => void) => {
      const [from, to] = [place(mirror, 0), place(mirror, 1)];
      await copyDevice(from.device, to.device, {
        sourceOffset: from.offset,
        targetOffset: to.offset,
        length: areaExtents(mirror) * group.extentSize,
        ...(signal ? { signal } : {}),
        ...(onProgress ? { onProgress } : {}),
      });
      await to.device.flush();
    };
    return { group, copy, close: () => session.close() };
  } catch (error) {
    await session.close();
    throw error;
  }
}

async function look<T>(
  context: LvmContext,
  name: string,
  { devices }: ChangeOptions,
  work: (found: FoundGroup) => T,
): Promise<T> {
  const session = await openSession(devices, { paths: context.paths });
  try {
    return work(findGroup(session.scan, name));
  } finally {
    await session.close();
  }
}

const idOf = (context: LvmContext, group: string, name: string, options: ChangeOptions) =>
  look(context, group, options, (found) => findVolume(found.group, name).id);

function plus(set: ReadonlySet<string>, id: string): ReadonlySet<string> {
  return new Set([...set, id]);
}

/** The volumes that lie on a pvmove. */
function affected({ logicalVolumes }: VolumeGroup, pvmove: string): string[] {
  return logicalVolumes
    .filter(({ segments }) =>
      segments.some(({ areas }) => areas.some((area) => area.kind === "lv" && area.lv === pvmove)),
    )
    .map(({ name }) => name);
}

/** Nobody uses the volumes, nor what is made of them, while `work` runs; it is told what it has. */
async function withUsersAway<T>(
  { paths }: LvmContext,
  group: VolumeGroup,
  volumes: readonly LogicalVolume[],
  work: (safe: ReadonlySet<string>) => Promise<T>,
): Promise<T> {
  const all = new Set(volumes);
  for (const volume of all) for (const above of volumesAbove(group, volume.name)) all.add(above);
  const origins = [...all].flatMap(
    ({ name }) => snapshotOf(group, name)?.origin ?? (snapshotsOn(group, name)[0] && name) ?? [],
  );
  const clusters = [...new Set(origins)].map((name) => findVolume(group, name));
  for (const origin of clusters) all.add(clusterOf(origin));
  const lock: HeldLock = await lockNeeded(paths.home, group, exclusive([...all]));
  try {
    return await work(new Set([...all].map(({ id }) => id)));
  } finally {
    await lock.release();
  }
}
