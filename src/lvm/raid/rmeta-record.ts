/**
 * The memory of a RAID volume: a superblock and a bitmap on the `_rmeta` volume of each leg.
 *
 *   state changes   1. bitmap header with the new count of events, all its bits   flush
 *                   2. superblock with that count                                flush
 *   a region        its bits on each leg, flush, before the first byte of it is written
 *
 * A cut within 1 leaves a bitmap that is ahead of its superblock, which both kernel and we accept; within 2 legs of which some know
 * the newer state, which counts. Bits are cleared without a flush: a lost clearing only makes a region be compared once more.
 */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { BITMAP_HEADER_SIZE, BITMAP_OFFSET } from "./layout.js";
import type { RecordedState, SyncRecord } from "./record.js";
import { ALL, encodeBitmapHeader, encodeSuperblock, type SetFacts } from "./superblock.js";

const PAGE = 4096;

export interface RmetaOptions {
  readonly facts: SetFacts;
  /** By leg. */
  readonly metas: readonly (BlockDevice | null)[];
  readonly parity: boolean;
  readonly events: bigint;
  readonly eventsCleared: bigint;
}

export class RmetaRecord implements SyncRecord {
  readonly remembersFailures = true;
  readonly #options: RmetaOptions;
  #events: bigint;
  #eventsCleared: bigint;

  constructor(options: RmetaOptions) {
    this.#options = options;
    this.#events = options.events;
    this.#eventsCleared = options.eventsCleared;
  }

  async writeState(state: RecordedState): Promise<readonly number[]> {
    const { facts, parity } = this.#options;
    this.#events++;
    const degraded = state.legs.some((leg) => leg !== "in sync");
    // What a leg that is away has missed is told by bits that are set since then.
    if (!degraded) this.#eventsCleared = this.#events;
    const resyncs = state.unequal || (state.inUse && !(parity && degraded));
    const failed = state.legs.reduce((mask, leg, i) => (leg === "in sync" ? mask : mask | (1n << BigInt(i))), 0n);
    const common = { events: this.#events, failed, recoveryOffset: ALL, resyncOffset: resyncs ? 0n : ALL };
    const bitmap = this.#page(state, 0, Infinity);
    const bad = await this.#onCurrent(state, async (meta) => {
      await meta.write(BITMAP_OFFSET, bitmap);
      await meta.flush();
    });
    const worse = await this.#onCurrent(state, async (meta, position) => {
      await meta.write(0, encodeSuperblock(facts, { ...common, position }));
      await meta.flush();
    });
    return [...new Set([...bad, ...worse])];
  }

  async writeBits(state: RecordedState, regions: readonly number[], durable: boolean): Promise<readonly number[]> {
    const pages = [...new Set(regions.map((region) => Math.floor((BITMAP_HEADER_SIZE + (region >> 3)) / PAGE)))];
    return this.#onCurrent(state, async (meta) => {
      for (const page of pages)
        await meta.write(BITMAP_OFFSET + page * PAGE, this.#page(state, page * PAGE, page * PAGE + PAGE));
      if (durable) await meta.flush();
    });
  }

  /** Bytes of header and bits, from the header's begin. */
  #page({ dirty }: RecordedState, from: number, to: number): Uint8Array {
    const { facts } = this.#options;
    const end = Math.min(to, Math.ceil((BITMAP_HEADER_SIZE + dirty.bits.length) / 512) * 512);
    const page = new Uint8Array(end - from);
    if (from === 0) page.set(encodeBitmapHeader(facts, this.#events, this.#eventsCleared));
    const first = Math.max(0, from - BITMAP_HEADER_SIZE);
    page.set(dirty.bits.subarray(first, end - BITMAP_HEADER_SIZE), Math.max(0, BITMAP_HEADER_SIZE - from));
    return page;
  }

  async #onCurrent(
    { legs }: RecordedState,
    work: (meta: BlockDevice, leg: number) => Promise<void>,
  ): Promise<number[]> {
    const bad: number[] = [];
    await Promise.all(
      legs.map(async (state, leg) => {
        const meta = this.#options.metas[leg];
        if (state !== "in sync") return;
        try {
          if (!meta) throw new DiskError("IO", `Cannot use leg ${leg}: its metadata is missing`);
          await work(meta, leg);
        } catch (error) {
          if (!(error instanceof DiskError)) throw error;
          bad.push(leg);
        }
      }),
    );
    return bad;
  }
}
