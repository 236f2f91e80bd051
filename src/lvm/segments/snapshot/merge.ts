/**
 * A snapshot goes back into its origin, a run of chunks at a time from the end of its list:
 *
 *   other snapshots keep the old contents -> chunks copied to the origin -> flush -> exceptions taken off the list (flush)
 *
 * A cut before the last step leaves the run in the list: it is copied again. The store's data stays where it is until the volume goes
 * away, so reads and writes of the origin go on meanwhile (origin-view.ts).
 */
import type { SnapshotMembers } from "./members.js";

/** Bytes that are copied at once; an area of 4 KiB chunks has as many. */
const RUN = 1 << 20;

export interface MergeOptions {
  readonly signal?: AbortSignal;
  /** Bytes done, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Resolves when the list is empty; the snapshot may go then. Aborted, what is left stays to be done. */
export async function mergeSnapshot(shared: SnapshotMembers, { signal, onProgress }: MergeOptions = {}): Promise<void> {
  const { origin, merging } = shared;
  if (!merging) throw new TypeError("nothing is to be merged");
  const { store, lock, size } = merging;
  store.requireValid();
  const total = store.length * store.chunkSize;
  const most = Math.max(1, RUN / store.chunkSize);
  for (let done = 0; ; ) {
    signal?.throwIfAborted();
    const run = await store.lastRun(most);
    const [first] = run;
    if (!first) return;
    await lock.run(first.oldChunk, run.length, async () => {
      const offset = first.oldChunk * store.chunkSize;
      const contents = new Uint8Array(Math.min(offset + run.length * store.chunkSize, size) - offset);
      await store.cow.read(first.newChunk * store.chunkSize, contents);
      await shared.preserve(offset, contents.length);
      await origin.write(offset, contents);
      await origin.flush();
      await store.removeLast(run);
    });
    onProgress?.((done += run.length * store.chunkSize), total);
  }
}
