/** A range cut where its bytes lie: runs within the store, and runs that the store does not have. */
import type { ExceptionStore } from "./store.js";

export interface ChunkRun {
  /** Bytes, of the origin. */
  readonly at: number;
  readonly length: number;
  /** Byte of the store where the run begins; null: it has no exceptions. */
  readonly place: number | null;
}

export function* inChunks(store: ExceptionStore, offset: number, length: number): Generator<ChunkRun> {
  const { chunkSize } = store;
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const first = Math.floor(at / chunkSize);
    const place = store.find(first);
    let chunk = first + 1;
    while (chunk * chunkSize < end && store.find(chunk) === (place === 0 ? 0 : place + chunk - first)) chunk++;
    const next = Math.min(chunk * chunkSize, end);
    yield { at, length: next - at, place: place === 0 ? null : place * chunkSize + (at - first * chunkSize) };
    at = next;
  }
}
