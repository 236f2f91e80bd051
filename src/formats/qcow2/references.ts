/** What an L2 table refers to, as it says: for those who count references, check them, or change them all. */
import type { Geometry } from "./geometry.js";
import type { GrowingFile } from "./growing-file.js";
import type { L2Entries } from "./l2-entries.js";

export interface Reference {
  /** Number of the entry in its table. */
  readonly index: number;
  /** Byte in the file, of any alignment when compressed. */
  readonly offset: number;
  readonly length: number;
  readonly compressed: boolean;
}

/** A whole L2 table; null when the file has a hole there, so that it says nothing. */
export async function readL2Table(file: GrowingFile, geometry: Geometry, offset: number): Promise<DataView | null> {
  const inside = Math.min(geometry.clusterSize, file.size - offset);
  if (inside <= 0) return null;
  for await (const { zero, length } of file.host.extents(offset, inside)) {
    if (zero && length === inside) return null;
    break;
  }
  const bytes = new Uint8Array(geometry.clusterSize);
  await file.read(offset, bytes);
  return new DataView(bytes.buffer);
}

/** Every place that the table's entries name, in order. */
export function* referencesOf(view: DataView, entries: L2Entries, geometry: Geometry): Generator<Reference> {
  for (let index = 0; index < geometry.l2Entries; index++) {
    if (entries.isCompressed(view, index)) yield { index, compressed: true, ...entries.compressed(view, index) };
    else if (entries.hasPlace(view, index))
      yield { index, compressed: false, offset: entries.place(view, index), length: geometry.clusterSize };
  }
}
