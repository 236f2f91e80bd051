/**
 * An origin and its snapshots while somebody writes one of them: before a chunk of the origin changes, every snapshot without it gets
 * the old contents.
 *
 *   old contents read -> written to the store -> exception committed (store.ts) -> the origin's write
 *
 * A cut at any time leaves each snapshot as it was: up to the commit the origin still has the old contents, afterwards the store has.
 */
import type { BlockDevice } from "../../../block/device.js";
import type { RangeLock } from "../../../block/range-lock.js";
import type { SharedState } from "../../shared-states.js";
import type { ExceptionStore, NewException } from "./store.js";

export interface Member {
  /** Of the volume that is the snapshot. */
  readonly name: string;
  readonly store: ExceptionStore;
  /** Bytes; an origin may have become larger since. */
  readonly size: number;
  /** Held, in chunks, by whoever adds or removes exceptions. */
  readonly lock: RangeLock;
}

/** Bytes that are copied at once. */
const PIECE = 1 << 20;
/** Exceptions that are committed at once, of one request. */
const MOST_PENDING = 4096;

export class SnapshotMembers implements SharedState {
  readonly origin: BlockDevice;
  readonly members: readonly Member[];
  /** The snapshot that is being merged into the origin. */
  readonly merging: Member | null;
  readonly #warn: (text: string) => void;

  constructor(
    origin: BlockDevice,
    members: readonly Member[],
    merging: Member | null,
    warn: (text: string) => void = () => {},
  ) {
    this.origin = origin;
    this.members = members;
    this.merging = merging;
    this.#warn = warn;
  }

  /** Every snapshot has its copy of these bytes of the origin when it resolves; undefined when there is nothing to do. */
  preserve(offset: number, length: number): Promise<void> | undefined {
    const needy = this.members.filter((member) => needsCopy(member, offset, length));
    if (needy.length === 0) return undefined;
    return Promise.all(needy.map((member) => this.#copyTo(member, offset, length))).then(() => {});
  }

  #copyTo(member: Member, offset: number, length: number): Promise<void> {
    const { store, lock } = member;
    const { first, end } = chunksOf(member, offset, length);
    return lock.run(first, end - first, async () => {
      try {
        let pending: NewException[] = [];
        for (let chunk = first; chunk < end; ) {
          const run = missingRun(store, chunk, end, Math.max(1, PIECE / store.chunkSize));
          chunk = run.end;
          if (run.first === run.end) continue;
          pending.push(...(await this.#copyRun(member, run.first, run.end)));
          if (pending.length < MOST_PENDING && chunk < end) continue;
          await store.commit(pending);
          pending = [];
        }
        await store.commit(pending);
      } catch (error) {
        await this.invalidate(member, (error as Error).message);
      }
    });
  }

  async #copyRun(member: Member, first: number, end: number): Promise<NewException[]> {
    const { store, size } = member;
    const { chunkSize } = store;
    const exceptions: NewException[] = [];
    for (let oldChunk = first; oldChunk < end; oldChunk++) {
      const newChunk = store.allocate();
      if (newChunk === 0) throw new Error("its store is full");
      exceptions.push({ oldChunk, newChunk });
    }
    const contents = new Uint8Array(Math.min(end * chunkSize, size) - first * chunkSize);
    await this.origin.read(first * chunkSize, contents);
    for (const { at, count } of neighbours(exceptions)) {
      const from = at * chunkSize;
      const part = contents.subarray(from, Math.min(from + count * chunkSize, contents.length));
      await store.cow.write(exceptions[at]!.newChunk * chunkSize, part);
    }
    return exceptions;
  }

  /** The snapshot is lost, its origin goes on. */
  async invalidate(member: Member, why: string): Promise<void> {
    if (!member.store.valid) return;
    this.#warn(`WARNING: Snapshot ${member.name} is invalid from now on: ${why}.`);
    await member.store.invalidate().catch((error: unknown) => {
      this.#warn(`WARNING: Cannot mark snapshot ${member.name} as invalid: ${(error as Error).message}.`);
    });
  }

  async close(): Promise<void> {
    for (const { store } of this.members) await store.cow.flush();
    await this.merging?.store.cow.flush();
    await this.origin.flush();
  }
}

/** Chunks of a range that the snapshot has. */
export function chunksOf({ store, size }: Member, offset: number, length: number): { first: number; end: number } {
  const first = Math.floor(offset / store.chunkSize);
  return { first, end: Math.max(first, Math.ceil(Math.min(offset + length, size) / store.chunkSize)) };
}

function needsCopy(member: Member, offset: number, length: number): boolean {
  if (!member.store.valid) return false;
  const { first, end } = chunksOf(member, offset, length);
  for (let chunk = first; chunk < end; chunk++) if (member.store.find(chunk) === 0) return true;
  return false;
}

/** The next chunks without an exception; both ends are `end` when there are none. */
function missingRun(store: ExceptionStore, from: number, end: number, most: number): { first: number; end: number } {
  let first = from;
  while (first < end && store.find(first) !== 0) first++;
  let last = first;
  while (last < end && last - first < most && store.find(last) === 0) last++;
  return { first, end: last };
}

/** Runs of exceptions whose chunks of the store follow each other. */
export function* neighbours(exceptions: readonly NewException[]): Generator<{ at: number; count: number }> {
  for (let at = 0; at < exceptions.length; ) {
    let count = 1;
    while (at + count < exceptions.length && exceptions[at + count]!.newChunk === exceptions[at]!.newChunk + count)
      count++;
    yield { at, count };
    at += count;
  }
}
