/**
 * A logical volume as a device: each segment opened as a target (segments/), their bytes joined. What several volumes share (a thin
 * pool) is opened once, and stays open as long as one of them is.
 */
import type { BlockDevice } from "../block/device.js";
import { type Location, mapDevice } from "../block/mapped.js";
import { DiskError } from "../errors.js";
import { checkGroup, unknownParts } from "./check-group.js";
import { findVolume, type LogicalVolume, type VolumeGroup, volumeSize } from "./metadata.js";
import { type Maintain, type OpenContext, segmentSize, type Target } from "./segments/target.js";
import { openTarget } from "./segments/targets.js";
import { type HeldState, type SharedState, type SharedStates, statesOn } from "./shared-states.js";

export interface OpenVolumeOptions {
  readonly writable?: boolean;
  /** For messages. Default `VG/LV`. */
  readonly label?: string;
  /** Where volumes meet that share something; default: those on the same `devices` do. */
  readonly states?: SharedStates;
  /** Told to people: a snapshot that overflows. */
  readonly warn?: (text: string) => void;
  /** Gets the legs of a RAID volume or mirror before it is used; default: makes them alike, beside its use where it takes long. */
  readonly maintain?: Maintain;
  /** Closes `devices`: when the volume is closed and nothing that was opened with it is in use by others any more, or when it cannot be opened. */
  close?(): Promise<void>;
}

/** `devices` by the local name of each physical volume; null for one that is missing: only its extents fail then. */
export async function openVolume(
  group: VolumeGroup,
  name: string,
  devices: ReadonlyMap<string, BlockDevice | null>,
  options: OpenVolumeOptions = {},
): Promise<BlockDevice> {
  const { context, opener } = contextOf(group, name, devices, options);
  try {
    return await opener.whole(context);
  } catch (error) {
    await opener.close();
    throw error;
  }
}

/** What a volume is opened from, for whoever does more with it than reading and writing. */
export function openContext(
  group: VolumeGroup,
  name: string,
  devices: ReadonlyMap<string, BlockDevice | null>,
  options: OpenVolumeOptions = {},
): { readonly context: OpenContext; close(): Promise<void> } {
  const { context, opener } = contextOf(group, name, devices, options);
  return { context, close: () => opener.close() };
}

function contextOf(
  group: VolumeGroup,
  name: string,
  devices: ReadonlyMap<string, BlockDevice | null>,
  { writable = false, label = `"${group.name}/${name}"`, states, warn, maintain, close }: OpenVolumeOptions,
): { context: OpenContext; opener: Opener } {
  const volume = findVolume(group, name);
  const problems = checkGroup(group);
  if (problems.length > 0)
    throw new DiskError("CORRUPT", `Cannot open ${label}: volume group ${group.name} is damaged: ${problems[0]}`);
  const base: Base = {
    group,
    devices,
    states: states ?? statesOn(devices.values()),
    warn: warn ?? (() => {}),
    ...(maintain ? { maintain } : {}),
    keeper: new Keeper(async () => close?.()),
  };
  const opener = new Opener(base, writable);
  return { context: opener.context(volume, label, writable && isWritable(group, volume), 0), opener };
}

/** Opens what a volume is opened from, and closes it behind `work`. The devices stay open. */
export async function withContext<T>(
  group: VolumeGroup,
  name: string,
  devices: ReadonlyMap<string, BlockDevice | null>,
  options: Omit<OpenVolumeOptions, "close">,
  work: (context: OpenContext) => Promise<T>,
): Promise<T> {
  const { context, close } = openContext(group, name, devices, options);
  try {
    return await work(context);
  } finally {
    await close();
  }
}

/** Whether group and volume allow writing. */
export function isWritable(group: VolumeGroup, volume: LogicalVolume): boolean {
  return group.status.includes("WRITE") && volume.status.includes("WRITE") && unknownParts(group).length === 0;
}

/** Of volumes upon volumes; LVM2's own layouts have four. */
const MAX_DEPTH = 32;

interface Base {
  readonly group: VolumeGroup;
  readonly devices: ReadonlyMap<string, BlockDevice | null>;
  readonly states: SharedStates;
  warn(text: string): void;
  readonly keeper: Keeper;
  readonly maintain?: Maintain;
}

/** Closes the devices when the last of those who use them is done. */
class Keeper {
  #users = 0;
  readonly #close: () => Promise<void>;

  constructor(close: () => Promise<void>) {
    this.#close = close;
  }

  hold(): void {
    this.#users++;
  }

  async release(): Promise<void> {
    if (--this.#users === 0) await this.#close();
  }
}

/** Opens volumes of a group for one owner, a volume or a shared state, and closes them with it. */
class Opener {
  readonly #base: Base;
  readonly #writable: boolean;
  readonly #opened = new Map<string, Promise<BlockDevice>>();
  readonly #held: HeldState<SharedState>[] = [];

  constructor(base: Base, writable: boolean) {
    this.#base = base;
    this.#writable = writable;
    base.keeper.hold();
  }

  /** The volume as its users see it: a snapshot is more than what its own extents hold. Closing it closes this. */
  async whole(context: OpenContext): Promise<BlockDevice> {
    const { group, volume, label } = context;
    const close = () => this.close();
    if (!group.logicalVolumes.some(({ segments }) => segments[0]?.type === "snapshot"))
      return this.volume(volume, label, close);
    const { openSnapshotRole } = await import("./segments/snapshot/open.js");
    return (await openSnapshotRole(context, close)) ?? this.volume(volume, label, close);
  }

  async volume(
    volume: LogicalVolume,
    label: string,
    close?: () => Promise<void>,
    { depth = 0, own = false } = {},
  ): Promise<BlockDevice> {
    const { group } = this.#base;
    const writable = this.#writable && (own || isWritable(group, volume));
    const context = this.context(volume, label, writable, depth);
    const targets: Target[] = [];
    const closeTargets = async () => {
      for (const target of targets) await target.close?.();
    };
    try {
      for (const segment of volume.segments) targets.push(await openTarget(context, segment));
    } catch (error) {
      await closeTargets();
      throw error;
    }
    return joinTargets(group, volume, { label, writable, targets }, async () => {
      try {
        await closeTargets();
      } finally {
        await close?.();
      }
    });
  }

  context(volume: LogicalVolume, label: string, writable: boolean, depth: number): OpenContext {
    const { group, devices, maintain } = this.#base;
    return {
      group,
      volume,
      writable,
      label,
      ...(maintain ? { maintain } : {}),
      device: (pv) => devices.get(pv) ?? null,
      open: (name, { own = false } = {}) => this.#below(name, label, { depth: depth + 1, own }),
      warn: (text) => this.#base.warn(text),
      share: (shared, forWriting, make) => this.#share(shared, forWriting, make),
    };
  }

  #below(name: string, label: string, options: { depth: number; own: boolean }): Promise<BlockDevice> {
    if (options.depth > MAX_DEPTH)
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot open ${label}: volumes lie upon each other more than ${MAX_DEPTH} deep`,
      );
    const { group } = this.#base;
    const opened =
      this.#opened.get(name) ?? this.volume(findVolume(group, name), `"${group.name}/${name}"`, undefined, options);
    this.#opened.set(name, opened);
    return opened;
  }

  async #share<S extends SharedState>(
    volume: LogicalVolume,
    writable: boolean,
    make: (context: OpenContext) => Promise<S>,
  ): Promise<S> {
    const { group, states } = this.#base;
    const held = await states.hold(group, volume, writable, async () => {
      const opener = new Opener(this.#base, writable);
      try {
        const state = await make(opener.context(volume, `"${group.name}/${volume.name}"`, writable, 0));
        return new OwnedState(state, opener);
      } catch (error) {
        await opener.close();
        throw error;
      }
    });
    this.#held.push(held);
    return held.state.state as S;
  }

  /** What lies highest is closed first. */
  async close(): Promise<void> {
    try {
      for (const held of this.#held.splice(0)) await held.release();
      for (const opened of [...this.#opened.values()].toReversed()) await (await opened.catch(() => null))?.close();
    } finally {
      await this.#base.keeper.release();
    }
  }
}

/** A shared state with the volumes that were opened for it. */
class OwnedState<S extends SharedState> implements SharedState {
  readonly state: S;
  readonly #opener: Opener;

  constructor(state: S, opener: Opener) {
    this.state = state;
    this.#opener = opener;
  }

  async close(): Promise<void> {
    try {
      await this.state.close();
    } finally {
      await this.#opener.close();
    }
  }
}

interface Joined {
  readonly label: string;
  readonly writable: boolean;
  readonly targets: readonly Target[];
}

function joinTargets(
  group: VolumeGroup,
  volume: LogicalVolume,
  { label, writable, targets }: Joined,
  close: () => Promise<void>,
): BlockDevice {
  const spans = volume.segments.map((segment, i) => {
    const start = segment.start * group.extentSize;
    return { start, end: start + segmentSize(group, segment), target: targets[i]! };
  });
  const beneath = [...new Set(targets.flatMap((target) => target.beneath))];
  return mapDevice({
    label,
    size: volumeSize(group, volume),
    blockSize: 1,
    writable,
    locate(offset, length) {
      const { start, end, target } = spanAt(spans, offset);
      const cut = (found: Location) => (found.length <= end - offset ? found : { ...found, length: end - offset });
      try {
        const location = target.locate(offset - start, Math.min(length, end - offset));
        return location instanceof Promise ? location.then(cut) : cut(location);
      } catch (error) {
        return Promise.reject(error); // a part that fails: asked for within calls that promise
      }
    },
    async flush() {
      if (writable) await Promise.all(beneath.map((device) => device.flush()));
    },
    close,
  });
}

/** Volumes have few segments, but some have thousands. */
function spanAt<S extends { readonly end: number }>(spans: readonly S[], offset: number): S {
  let [low, high] = [0, spans.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (offset < spans[middle]!.end) high = middle;
    else low = middle + 1;
  }
  return spans[low]!;
}
