/**
 * State that several open volumes have in common: a thin pool, an origin with its snapshots. It is made with the first of them and
 * closed with the last, once in a process; a lock keeps other processes (and other threads) away meanwhile.
 */
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import type { LogicalVolume, VolumeGroup } from "./metadata.js";

export interface SharedState {
  /** Its last user is gone: what is left to write is written. */
  close(): Promise<void>;
}

export interface HeldState<S extends SharedState> {
  readonly state: S;
  /** Idempotent. */
  release(): Promise<void>;
}

export interface StateLock {
  release(): Promise<void>;
}

/** Keeps others from what `volume` stands for, until it is released. Throws `DENIED`. */
export type LockState = (group: VolumeGroup, volume: LogicalVolume, writable: boolean) => Promise<StateLock>;

interface Entry {
  readonly made: Promise<{ readonly state: SharedState; readonly lock: StateLock | null }>;
  readonly writable: boolean;
  users: number;
  /** Set when the last user has gone. */
  closing: Promise<void> | null;
}

export class SharedStates {
  readonly #entries = new Map<string, Entry>();
  readonly #lock: LockState | null;

  constructor(lock: LockState | null = null) {
    this.#lock = lock;
  }

  /** What `volume` stands for, made by `make` unless somebody has it already. */
  async hold<S extends SharedState>(
    group: VolumeGroup,
    volume: LogicalVolume,
    writable: boolean,
    make: () => Promise<S>,
  ): Promise<HeldState<S>> {
    const key = `${group.id}/${volume.id}`;
    for (let old = this.#entries.get(key); old?.closing; old = this.#entries.get(key))
      await old.closing.catch(() => {});
    let entry = this.#entries.get(key);
    if (entry && writable && !entry.writable)
      throw new DiskError(
        "DENIED",
        `Cannot open ${group.name}/${volume.name} for writing: this process has it open for reading`,
      );
    if (!entry) {
      entry = { made: this.#make(group, volume, writable, make), writable, users: 0, closing: null };
      this.#entries.set(key, entry);
      entry.made.catch(() => this.#entries.delete(key)); // nobody got it: the next one tries anew
    }
    entry.users++;
    const { state } = await entry.made;
    let released: Promise<void> | null = null;
    const release = () => {
      released ??= this.#release(key, entry);
      return released;
    };
    return { state: state as S, release };
  }

  async #make(group: VolumeGroup, volume: LogicalVolume, writable: boolean, make: () => Promise<SharedState>) {
    const lock = (await this.#lock?.(group, volume, writable)) ?? null;
    try {
      return { state: await make(), lock };
    } catch (error) {
      await lock?.release();
      throw error;
    }
  }

  async #release(key: string, entry: Entry): Promise<void> {
    entry.users--;
    if (entry.users > 0) return;
    entry.closing = this.#close(key, entry);
    await entry.closing;
  }

  async #close(key: string, entry: Entry): Promise<void> {
    const { state, lock } = await entry.made;
    try {
      await state.close();
    } finally {
      this.#entries.delete(key);
      await lock?.release();
    }
  }
}

const BY_DEVICE = new WeakMap<BlockDevice, SharedStates>();

/** The states of volumes that lie on the same open devices. */
export function statesOn(devices: Iterable<BlockDevice | null>): SharedStates {
  const first = [...devices].find((device) => device !== null);
  if (!first) return new SharedStates();
  const known = BY_DEVICE.get(first) ?? new SharedStates();
  BY_DEVICE.set(first, known);
  return known;
}
