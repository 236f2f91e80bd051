/**
 * A snapshot as a device. What its store does not have is read from the origin, which somebody may be writing meanwhile, in this
 * process or another: the origin is read first, then the store is looked at again. The exception comes before the origin's write, so
 * bytes without one afterwards were the old ones.
 */
import { type BlockDevice, defineDevice, type Extent } from "../../../block/device.js";
import { inChunks } from "./chunk-runs.js";
import { chunksOf, type Member, neighbours, type SnapshotMembers } from "./members.js";
import type { NewException } from "./store.js";

export interface SnapshotViewOptions {
  readonly label: string;
  readonly origin: BlockDevice;
  readonly member: Member;
  /** Whoever writes; null: the snapshot is only read, and others may write the origin. */
  readonly shared: SnapshotMembers | null;
  close(): Promise<void>;
}

/** Bytes of which a map is made at once. */
const MAPPED = 64 << 20;

export function snapshotView({ label, origin, member, shared, close }: SnapshotViewOptions): BlockDevice {
  const { store, size } = member;
  const lookAgain = () => (shared ? undefined : store.refresh());

  async function read(offset: number, into: Uint8Array): Promise<void> {
    store.requireValid();
    for (const { at, length, place } of inChunks(store, offset, into.length)) {
      const part = into.subarray(at - offset, at - offset + length);
      if (place !== null) await store.cow.read(place, part);
      else await readUnchanged(at, part);
    }
  }

  async function readUnchanged(offset: number, into: Uint8Array): Promise<void> {
    await origin.read(offset, into);
    await lookAgain();
    store.requireValid();
    for (const { at, length, place } of inChunks(store, offset, into.length))
      if (place !== null) await store.cow.read(place, into.subarray(at - offset, at - offset + length));
  }

  async function* extents(offset: number, length: number): AsyncGenerator<Extent> {
    store.requireValid();
    for (const { at, length: run, place } of inChunks(store, offset, length)) {
      if (place !== null) {
        for await (const extent of store.cow.extents(place, run))
          yield { ...extent, offset: extent.offset - place + at };
        continue;
      }
      for (let from = at; from < at + run; from += MAPPED) yield* unchanged(from, Math.min(MAPPED, at + run - from));
    }
  }

  async function* unchanged(offset: number, length: number): AsyncGenerator<Extent> {
    const found: Extent[] = [];
    for await (const extent of origin.extents(offset, length)) found.push({ ...extent, depth: extent.depth + 1 });
    await lookAgain();
    store.requireValid();
    const changed = [...inChunks(store, offset, length)].some(({ place }) => place !== null);
    // Somebody is writing here just now: what is a hole and what not is not worth another look.
    if (changed) yield { offset, length, data: true, zero: false, present: true, depth: 0, hostOffset: null };
    else yield* found;
  }

  async function write(offset: number, data: Uint8Array): Promise<void> {
    store.requireValid();
    const { first, end } = chunksOf(member, offset, data.length);
    await member.lock.run(first, end - first, async () => {
      const added: NewException[] = [];
      const places: NewException[] = [];
      for (let oldChunk = first; oldChunk < end; oldChunk++) {
        const known = store.find(oldChunk);
        const place = { oldChunk, newChunk: known || store.allocate() };
        if (place.newChunk === 0) {
          await shared!.invalidate(member, "its store is full");
          store.requireValid();
        }
        places.push(place);
        if (known === 0) added.push(place);
      }
      await fillEdges(offset, offset + data.length, added);
      for (const { at, count } of neighbours(places)) {
        const { oldChunk, newChunk } = places[at]!;
        const from = Math.max(offset, oldChunk * store.chunkSize);
        const to = Math.min(offset + data.length, (oldChunk + count) * store.chunkSize);
        const place = newChunk * store.chunkSize + (from - oldChunk * store.chunkSize);
        await store.cow.write(place, data.subarray(from - offset, to - offset));
      }
      await store.commit(added);
    });
  }

  /** New chunks that are written in part only begin with what the origin has. */
  async function fillEdges(offset: number, end: number, added: readonly NewException[]): Promise<void> {
    for (const { oldChunk, newChunk } of added) {
      const from = oldChunk * store.chunkSize;
      const to = Math.min(from + store.chunkSize, size);
      if (offset <= from && to <= end) continue;
      const old = new Uint8Array(to - from);
      await origin.read(from, old);
      await store.cow.write(newChunk * store.chunkSize, old);
    }
  }

  return defineDevice({
    label,
    size,
    read,
    extents,
    ...(shared ? { write, flush: () => store.cow.flush() } : {}),
    close,
  });
}
