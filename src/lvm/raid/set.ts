/**
 * A volume of legs as a device: mirrors, RAID 1, 10, 4, 5, 6. The layout says what lies where; this keeps the order of writes.
 *
 *   first change of all     state "in use" on every leg, flush
 *   a write                 dirty bits of its regions, flush -> the legs, side by side
 *   a leg refuses a write   state "failed" on the others, flush -> the write is answered
 *   close                   flush of the legs -> bits cleared, state "not in use", flush
 *
 * A cut at any point leaves legs that differ in dirty regions only. Those are made alike when the volume is next opened for writing:
 * from the first leg, or by computing parities anew. What was flushed before is on every leg.
 */
import { type BlockDevice, defineDevice, type Extent } from "../../block/device.js";
import { RangeLock } from "../../block/range-lock.js";
import type { Assembled } from "./assemble.js";
import { Intents } from "./intents.js";
import type { LegIo, LegLayout } from "./leg-io.js";
import { type Leg, Legs } from "./legs.js";
import { Membership } from "./membership.js";
import type { LegState, SyncRecord } from "./record.js";
import { Recovery } from "./recovery.js";
import { Regions } from "./regions.js";

export interface SetOptions {
  readonly label: string;
  /** Bytes. */
  readonly size: number;
  readonly writable: boolean;
  readonly legs: readonly Leg[];
  readonly assembled: Pick<Assembled, "legs" | "dirty" | "stale" | "behind" | "agreed">;
  readonly record: SyncRecord;
  /** Bytes. */
  readonly regionSize: number;
  layout(io: LegIo): LegLayout;
  /** Monotonic milliseconds. */
  now(): number;
}

/** Bits of regions that were idle for as long are cleared with the next flush. */
const RETIRE_MS = 5000;

export class RaidSet {
  readonly device: BlockDevice;
  readonly #options: SetOptions;
  readonly #layout: LegLayout;
  readonly #legs: Legs;
  readonly #members: Membership;
  readonly #intents: Intents;
  readonly #recovery: Recovery;
  readonly #ranges = new RangeLock();
  #recovering: Promise<void> | null = null;
  #retired: number;

  constructor(options: SetOptions) {
    const { label, size, writable, legs, assembled, record, regionSize } = options;
    this.#options = options;
    this.#retired = options.now();
    const members = new Membership({
      label,
      writable,
      assembled,
      record,
      isComplete: (present) => this.#layout.isComplete(present),
    });
    this.#members = members;
    this.#legs = new Legs({
      legs,
      writable,
      states: members.states,
      isStale: (offset, length) => this.#isStale(offset, length),
      failed: (leg, error) => members.fail(leg, error),
    });
    this.#layout = options.layout(this.#legs);
    this.#intents = new Intents(Regions.from(assembled.dirty.count, assembled.dirty.bits), members);
    this.#recovery = new Recovery({
      layout: this.#layout,
      legs: this.#legs,
      members,
      intents: this.#intents,
      ranges: this.#ranges,
      regionSize,
    });
    this.device = defineDevice({
      label,
      size,
      writable,
      read: (offset, into) => this.#read(offset, into),
      write: (offset, data) => this.#change(offset, data.length, () => this.#layout.write(offset, data)),
      zero: (offset, length) => this.#change(offset, length, () => this.#layout.zero(offset, length)),
      // Legs must stay alike: zeros on all of them, which gives as much space back.
      discard: (offset, length) => this.#change(offset, length, () => this.#layout.zero(offset, length)),
      extents: (offset, length) => this.#extents(offset, length),
      flush: () => this.#flush(),
      close: () => this.#close(),
    });
  }

  /** Whether all bytes are there. */
  get isComplete(): boolean {
    return this.#members.isComplete;
  }

  get legStates(): readonly LegState[] {
    return this.#members.states;
  }

  /** Bytes, in whole regions, in which legs may differ. */
  get unequal(): number {
    return this.#recovery.left * this.#options.regionSize;
  }

  /**
   * Makes legs alike, once, before other use: resolves when at most `atOnce` bytes are done. More is done beside other use, and
   * ends at the latest when the volume is closed.
   */
  async recover(atOnce: number): Promise<void> {
    if (!this.#options.assembled.agreed) await this.#members.begin(); // closing writes all of them
    if (this.#recovery.left === 0) return;
    await this.#recovery.skipEmpty();
    const small = this.unequal <= atOnce;
    this.#recovering = this.#recovery.run();
    this.#recovering.catch(() => {}); // told when the volume is closed
    if (small) await this.#recovering;
  }

  /** Compares all legs; gives the bytes in which they differ. With `repair` they do no more. */
  check(repair: boolean): Promise<number> {
    return this.#recovery.check(repair);
  }

  async #read(offset: number, into: Uint8Array): Promise<void> {
    if (await this.#layout.read(offset, into, false)) return;
    // Put together from several legs, or given back to one: nobody may write there meanwhile.
    const locked = async () => {
      await this.#layout.read(offset, into, true);
    };
    if (this.#options.writable) await this.#change(offset, into.length, locked);
    else await locked();
  }

  async #change(offset: number, length: number, work: () => Promise<void>): Promise<void> {
    const range = this.#layout.syncRange(offset, length);
    const { first, last } = this.#regionsOf(range.offset, range.length);
    await this.#members.begin();
    await this.#intents.enter(first, last);
    try {
      await this.#ranges.run(range.offset, range.length, work);
    } catch (error) {
      // Some legs may have it and some not.
      for (let region = first; region <= last; region++) this.#members.stale.add(region);
      throw error;
    } finally {
      this.#intents.leave(first, last);
    }
  }

  async #flush(): Promise<void> {
    if (!this.#options.writable) return;
    const now = this.#options.now();
    if (!this.#members.isWhole || now - this.#retired < RETIRE_MS) return this.#legs.flush();
    this.#retired = now;
    await this.#intents.retire(
      () => this.#legs.flush(),
      (region) => !this.#members.isWhole || this.#members.stale.has(region),
    );
  }

  async #close(): Promise<void> {
    if (!this.#options.writable) return;
    this.#recovery.stop();
    await this.#recovering;
    await this.#legs.flush();
    await this.#members.end();
  }

  async *#extents(offset: number, length: number): AsyncGenerator<Extent> {
    const make = (from: number, to: number, zeros: boolean): Extent => {
      const place = { offset: from, length: to - from, hostOffset: null, depth: 0 };
      return { ...place, data: !zeros, zero: zeros, present: true };
    };
    let [start, zero] = [offset, false];
    for (let at = offset; at < offset + length; ) {
      const run = await this.#layout.run(at, offset + length - at);
      if (at > start && run.zero !== zero) {
        yield make(start, at, zero);
        start = at;
      }
      zero = run.zero;
      at += run.length;
    }
    if (offset + length > start) yield make(start, offset + length, zero);
  }

  #regionsOf(offset: number, length: number): { first: number; last: number } {
    const { regionSize, assembled } = this.#options;
    const last = Math.min(assembled.dirty.count, Math.ceil((offset + length) / regionSize)) - 1;
    return { first: Math.floor(offset / regionSize), last };
  }

  #isStale(offset: number, length: number): boolean {
    const { stale } = this.#members;
    if (stale.size === 0) return false;
    const { first, last } = this.#regionsOf(offset, length);
    for (let region = first; region <= last; region++) if (stale.has(region)) return true;
    return false;
  }
}
