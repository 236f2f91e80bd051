/** Which legs a set can count on, where they may differ, and that the disks know it: every change here is recorded before it is relied on. */
import { RangeLock } from "../../block/range-lock.js";
import { DiskError } from "../../errors.js";
import type { Assembled } from "./assemble.js";
import type { LegState, RecordedState, SyncRecord } from "./record.js";
import { Regions } from "./regions.js";

export interface MembershipOptions {
  readonly label: string;
  readonly writable: boolean;
  readonly assembled: Pick<Assembled, "legs" | "dirty" | "stale" | "behind">;
  readonly record: SyncRecord;
  /** Whether all bytes are there with the legs that are `true`. */
  isComplete(present: readonly boolean[]): boolean;
}

export class Membership {
  readonly states: LegState[];
  /** Regions in which legs that are in sync may differ. */
  readonly stale: Regions;
  /** What legs that are behind lack. */
  readonly behind: Map<number, Regions>;
  readonly #options: MembershipOptions;
  /** Bits as they are on disk, or about to be. */
  readonly #bits: Regions;
  readonly #one = new RangeLock();
  #inUse = false;
  #begun: Promise<void> | null = null;
  #saved: Promise<void> = Promise.resolve();

  constructor(options: MembershipOptions) {
    const { legs, dirty, stale, behind } = options.assembled;
    this.#options = options;
    this.states = [...legs];
    this.stale = stale;
    this.behind = new Map(behind);
    this.#bits = Regions.from(dirty.count, dirty.bits);
  }

  get isComplete(): boolean {
    return this.#options.isComplete(this.states.map((state) => state === "in sync"));
  }

  get isWhole(): boolean {
    return this.states.every((state) => state === "in sync");
  }

  /** Whether some leg lacks a region, or may differ there. */
  isUnequal(region: number): boolean {
    if (this.stale.has(region)) return true;
    for (const lacks of this.behind.values()) if (lacks.has(region)) return true;
    return false;
  }

  /** Before the first change of the volume: from now on a cut is noticed. */
  begin(): Promise<void> {
    this.#begun ??= (async () => {
      this.#inUse = true;
      await this.#save();
    })();
    return this.#begun;
  }

  /** After the last one, with everything flushed. */
  async end(): Promise<void> {
    if (!this.#begun) return;
    await this.#begun;
    // What a leg that is away has missed is told by the bits: they stay.
    if (this.isWhole) for (const region of this.#bits) if (!this.stale.has(region)) this.#bits.delete(region);
    this.#inUse = false;
    await this.#save();
  }

  mark(regions: readonly number[]): Promise<void> {
    for (const region of regions) this.#bits.add(region);
    return this.#saveBits(regions, true);
  }

  clear(regions: readonly number[]): Promise<void> {
    for (const region of regions) this.#bits.delete(region);
    return this.#saveBits(regions, false);
  }

  /** Goes on without a leg that gave `error`, or throws it when the volume cannot. */
  async fail(leg: number, error: DiskError): Promise<void> {
    if (this.states[leg] === "failed") return this.#saved;
    const left = this.states.map((state, other) => state === "in sync" && other !== leg);
    const { writable, record, isComplete } = this.#options;
    if (!writable || !record.remembersFailures || !isComplete(left)) throw error;
    this.#drop(leg);
    this.#saved = this.#save();
    await this.#saved;
  }

  /** Legs that lack nothing any more, with what they got flushed. */
  async join(legs: readonly number[]): Promise<void> {
    for (const leg of legs) {
      this.behind.delete(leg);
      this.states[leg] = "in sync";
    }
    await this.#save();
  }

  #drop(leg: number): void {
    this.states[leg] = "failed";
    this.behind.delete(leg);
  }

  #save(): Promise<void> {
    return this.#one.run(0, 1, () => this.#record((record, state) => record.writeState(state)));
  }

  #saveBits(regions: readonly number[], durable: boolean): Promise<void> {
    return this.#one.run(0, 1, () => this.#record((record, state) => record.writeBits(state, regions, durable)));
  }

  /** A leg whose own record cannot be written is of no use; the others are told, until they all know. */
  async #record(write: (record: SyncRecord, state: RecordedState) => Promise<readonly number[]>): Promise<void> {
    const { record, label } = this.#options;
    const state = () => ({
      legs: this.states,
      inUse: this.#inUse,
      unequal: this.stale.size > 0,
      dirty: this.#bits,
    });
    for (let bad = await write(record, state()); bad.length > 0; bad = await record.writeState(state())) {
      for (const leg of bad) this.#drop(leg);
      if (!this.isComplete) throw new DiskError("IO", `Cannot write ${label}: too few legs take their metadata`);
    }
  }
}
