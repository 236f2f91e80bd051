/**
 * Locks between processes, files below XVD_HOME/lvm/locks: one for each group while it is changed, one for each volume while it is open.
 * A change waits for another change of its group. It does not wait for the users of a volume: it refuses what would take
 * extents away from them, and everything else (extend, rename, new volumes) goes on beside them.
 */
import { join } from "node:path";
import { DiskError } from "../../errors.js";
import { volumesAbove } from "../../lvm/changes/dependents.js";
import type { NeededLock } from "../../lvm/changes/endangered.js";
import { isVisible, type LogicalVolume, type VolumeGroup } from "../../lvm/metadata.js";
import { type LockState, SharedStates } from "../../lvm/shared-states.js";
import { type OpenFile, openFile } from "../../os/file.js";
import { type LockMode, lockFile } from "../../os/lock.js";
import { pathExists } from "../../os/paths.js";
import { makeFolder } from "../../os/state-files.js";

export interface HeldLock {
  release(): Promise<void>;
}

const WAIT_MS = 60_000;
const RETRY_MS = 25;
/** Stands for the physical volumes that are in no group. */
export const ORPHANS = "#orphans";

/** Locks groups against other changes, in the order of their names, waiting for others. */
export function lockGroups(home: string, names: readonly string[]): Promise<HeldLock> {
  const purpose = (name: string) => (name === ORPHANS ? "change physical volumes" : `change volume group ${name}`);
  const take = (name: string) => retried(() => lockNamed(home, `V_${name}`, "write", purpose(name)));
  return lockAll([...new Set(names)].sort().map((name) => () => take(name)));
}

async function retried(take: () => Promise<HeldLock>): Promise<HeldLock> {
  for (let waited = 0; ; waited += RETRY_MS) {
    try {
      return await take();
    } catch (error) {
      if (!isLocked(error) || waited >= WAIT_MS) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** Keeps a volume that is in use from being removed, cut or moved. Readers share; a writer is alone. */
export function lockVolume(
  home: string,
  group: VolumeGroup,
  volume: LogicalVolume,
  mode: "read" | "write",
  purpose: string,
): Promise<HeldLock> {
  return lockNamed(home, `L_${group.id}-${volume.id}`, mode, purpose);
}

/** Locks a volume, and for a part of others (a pool's metadata) those it is a part of: their users rely on it. */
export function lockUse(
  home: string,
  group: VolumeGroup,
  volume: LogicalVolume,
  mode: "read" | "write",
  purpose: string,
): Promise<HeldLock> {
  return lockAll(withWholes(group, volume).map((used) => () => lockVolume(home, group, used, mode, purpose)));
}

/** Keeps away from some volumes whom a change would hurt. */
export function lockNeeded(home: string, group: VolumeGroup, needed: readonly NeededLock[]): Promise<HeldLock> {
  return lockAll(
    needed.map(
      ({ volume, mode }) =>
        () =>
          lockVolume(home, group, volume, mode, `change logical volume ${group.name}/${volume.name}`),
    ),
  );
}

/** All of them, or none. */
async function lockAll(takes: readonly (() => Promise<HeldLock>)[]): Promise<HeldLock> {
  const locks: HeldLock[] = [];
  const release = async () => {
    for (const lock of locks.splice(0).toReversed()) await lock.release();
  };
  try {
    for (const take of takes) locks.push(await take());
    return { release };
  } catch (error) {
    await release();
    throw error;
  }
}

function withWholes(group: VolumeGroup, volume: LogicalVolume): LogicalVolume[] {
  const found = new Set([volume]);
  for (const part of found) if (!isVisible(part)) for (const whole of volumesAbove(group, part.name)) found.add(whole);
  return [...found];
}

const STATES = new Map<string, SharedStates>();

/** Where this thread's open volumes meet that share something. What they share is locked as a volume is. */
export function statesOf(home: string): SharedStates {
  const lock: LockState = (group, volume, writable) =>
    lockVolume(home, group, volume, writable ? "write" : "read", `use ${group.name}/${volume.name}`);
  const states = STATES.get(home) ?? new SharedStates(lock);
  STATES.set(home, states);
  return states;
}

async function lockNamed(home: string, name: string, mode: LockMode, purpose: string): Promise<HeldLock> {
  const folder = join(home, "lvm", "locks");
  const path = join(folder, name.replaceAll("/", "_"));
  makeFolder(folder);
  const file = await openOrCreate(path);
  try {
    const lock = lockFile(file, mode, { purpose });
    return {
      async release() {
        lock.release();
        await file.close();
      },
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function openOrCreate(path: string): Promise<OpenFile> {
  try {
    return await openFile(path, { writable: true, create: !pathExists(path) });
  } catch (error) {
    if (!(error instanceof DiskError) || error.details.errno !== "EEXIST") throw error;
    return openFile(path, { writable: true }); // made by another process in between
  }
}

/** Refused because somebody uses it. */
export function isLocked(error: unknown): boolean {
  return error instanceof DiskError && error.code === "DENIED" && error.details.locked === true;
}
