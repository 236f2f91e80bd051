/**
 * What serves the bytes of one segment: the counterpart of a device-mapper target. A type of segment opens as a `Target` from the
 * segment and the context it lies in; `targets.ts` is the registry.
 */
import type { BlockDevice } from "../../block/device.js";
import type { Location } from "../../block/mapped.js";
import { DiskError } from "../../errors.js";
import type { LogicalVolume, Segment, VolumeGroup } from "../metadata.js";
import type { SharedState } from "../shared-states.js";

export interface Target {
  /** Where bytes lie, counted from the begin of the segment. `length` of the result is at least 1 and may be more than was asked for. */
  locate(offset: number, length: number): Location | Promise<Location>;
  /** What a flush of the volume flushes. */
  readonly beneath: readonly BlockDevice[];
  /** What is left to write is written, what it opened by itself is closed. Volumes and states got from the context are the context's. */
  close?(): Promise<void>;
}

/** What somebody does with the legs of a RAID volume or mirror: makes them alike, compares them, looks at their state. */
export type Maintain = (legs: LegSet, volume: LogicalVolume) => Promise<void>;

export interface LegSet {
  readonly legStates: readonly ("in sync" | "behind" | "failed")[];
  /** Bytes, in whole regions, in which legs may differ. */
  readonly unequal: number;
  /** Makes legs alike: resolves when at most `atOnce` bytes are; more is done beside other use. */
  recover(atOnce: number): Promise<void>;
  /** Bytes in which legs differ; with `repair` they do no more. */
  check(repair: boolean): Promise<number>;
}

/** What a segment is opened from. */
export interface OpenContext {
  readonly group: VolumeGroup;
  readonly volume: LogicalVolume;
  /** Whether the volume may be written. */
  readonly writable: boolean;
  /** The volume, as messages name it. */
  readonly label: string;
  readonly maintain?: Maintain;
  /** A physical volume by its local name; null: it is missing. */
  device(pv: string): BlockDevice | null;
  /** Another volume of the group by its own segments, opened once for this context and closed with it; `own`: what lies on it is the opener's. */
  open(name: string, options?: { readonly own?: boolean }): Promise<BlockDevice>;
  /** Tells people what they should know, once. */
  warn(text: string): void;
  /**
   * State that `volume` stands for and others share too, kept until this context is closed. `make` gets a context that lives as long
   * as the state; volumes opened from that are writable when the state is.
   */
  share<S extends SharedState>(
    volume: LogicalVolume,
    writable: boolean,
    make: (context: OpenContext) => Promise<S>,
  ): Promise<S>;
}

export type OpenTarget = (context: OpenContext, segment: Segment) => Promise<Target>;

/** A device as long as the segment. */
export function deviceTarget(device: BlockDevice): Target {
  return {
    locate: (offset) => ({ kind: "data", device, offset, length: device.size - offset, shared: false }),
    beneath: [device],
    close: () => device.close(),
  };
}

/** Bytes of a segment. */
export function segmentSize({ extentSize }: VolumeGroup, { count }: Segment): number {
  return count * extentSize;
}

export function failing(label: string, why: string): never {
  throw new DiskError("IO", `Cannot use ${label}: ${why}`);
}
